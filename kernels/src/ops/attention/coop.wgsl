// Causal attention with cooperative matrices (prefill): as kernel.wgsl, with q, k, v and the exponentials
// rounded to f16 and all sums in f32. Bindings and splits as there, and the grid is (KV heads, tiles of rows, splits).
//
// One workgroup of four subgroups computes BQ query rows of one KV head, BK keys at a time; a subgroup RW
// matrices of T rows. Queries and sums stay in registers, scores go through workgroup memory, where SHARE
// lanes share a row. A matrix in registers cannot be scaled row by row, which online softmax asks for
// whenever a row's largest score grows. So exponentials are taken relative to a maximum that follows only
// when it has been left behind by 2^8 (f16 holds 2^15): after the first keys that is rare, and then the
// sums take the way through workgroup memory (the idea is FlashAttention-4's). Tiles of rows with the most
// keys come first, so that the last workgroups to run are short ones.

const BQ: u32 = 4u * RW * T;
const WG: u32 = 4u * SG;
const D4: u32 = HD / 4u;
const HS: u32 = HD + 8u;        // strides, padded against bank conflicts
const SS: u32 = BK + 4u;
const SCORES: u32 = 1u;
const PS: u32 = BK + 8u;
const SHARE: u32 = SG / (RW * T);
const LOWEST: f32 = -3.0e38;
const AHEAD: f32 = 8.0;
const LN_2: f32 = 0.6931471805599453;

struct Params {
    token0: u32,    // token of the batch that q begins with
    tokens: u32,
    kv_heads: u32,
    group: u32,     // query heads of a KV head
    position0: u32, // first position of the chunk
    positions: u32,
    splits: u32,
    window: u32,    // 0: all earlier positions
    flags: u32,     // KEEP, MERGE, RING, OLDER
    scale: f32,
    slots: u32,     // 1
    context: u32,   // positions of a slot, or blocks of its table
    chunk: u32,     // which of the chunks of a pool of blocks
    chunks: u32,
    table: u32,     // word of the state at which tables begin
    piece: u32,     // and that of the state of a prompt's piece
}

const KEEP: u32 = 1u;
const MERGE: u32 = 2u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

var<workgroup> rows_of: array<f32, WG>; // a number for each lane, or for each row
var<workgroup> rest_of: array<f32, BQ>;
var<workgroup> grown: u32;              // 1: a maximum grew; 2: and there are sums already

// Index of row r in [tokens, heads].
fn head_of(r: u32, kv_head: u32) -> u32 {
    return (r / p.group) * p.kv_heads * p.group + kv_head * p.group + r % p.group;
}

// Four values of a query: the i-th of the rows that are the subgroups' r-th matrices.
fn query4(row0: u32, rows: u32, kv_head: u32, r: u32, i: u32) -> vec4<f32> {
    let row = min(row0 + (i / D4 / T * RW + r) * T + i / D4 % T, rows - 1u);
    return q[head_of(row, kv_head) * D4 + i % D4];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let rows = p.tokens * p.group;
    let row0 = ((rows + BQ - 1u) / BQ - 1u - wid.y) * BQ;
    let kv_head = wid.x;

    // Keys this workgroup walks: those of the chunk that its last row sees, cut into splits.
    let last_row = min(row0 + BQ, rows) - 1u;
    let least_end = end_of(row0 / p.group);
    let most_first = first_of(last_row / p.group);
    let end = min(end_of(last_row / p.group), p.position0 + p.positions);
    let begin = tile_of(max(first_of(row0 / p.group), p.position0));
    let n = max(end, begin) - begin;
    let each = ((n + p.splits - 1u) / p.splits + BK - 1u) / BK * BK;
    let first_key = min(begin + wid.z * each, max(end, begin));
    let last_key = min(first_key + each, max(end, begin));

    // Queries, through the tile of keys and values, into registers: all loads before the first store, so that they are
    // in flight together, which short sequences feel. Exponentials are powers of 2.
    let scale = p.scale * 1.4426950408889634;
    //@ for n in QL
    let place$n = min(lid + $nu * WG, 4u * T * D4 - 1u);
    //@ end
    //@ for r in RW
    //@ for n in QL
    let query_$r_$n = query4(row0, rows, kv_head, $ru, place$n) * scale;
    //@ end
    //@ end
    //@ for r in RW
    //@ for n in QL
    put4(place$n / D4 * HS + place$n % D4 * 4u, query_$r_$n);
    //@ end
    workgroupBarrier();
    //@ for d in ND
    let q_$r_$d = coopLoadT<MatA>(&kv[(sid * T * HS + $du * T) / PER], HS / PER);
    //@ end
    workgroupBarrier();
    //@ end

    // This lane's row, and its share of the keys.
    let strip = sid * RW * T;
    let row = strip + lane / SHARE;
    let mates = sid * SG + lane / SHARE * SHARE; // first of the lanes that share it
    let share0 = (lane % SHARE) * (BK / SHARE);
    let token = min(row0 + row, rows - 1u) / p.group;
    let beyond = end_of(token);
    let first = first_of(token);
    var m = LOWEST;
    var l = 0.0;
    //@ for r in RW
    //@ for i in ND
    var acc_$r_$i = MatC();
    //@ end
    //@ end

    var place = place_of(first_key, 0u);
    for (var k0 = first_key; k0 < last_key; k0 += BK) {
        // Keys and values into workgroup memory, all loads before the first store, so that they are in
        // flight together. An invocation past the end repeats the last load.
        //@ for n in KL
        let i$n = min(lid + $nu * WG, BK * HD / 8u - 1u);
        let row$n = place + min(i$n / (HD / 8u), last_key - 1u - k0);
        let from$n = (row$n * p.kv_heads + kv_head) * (HD / 8u) + i$n % (HD / 8u);
        let key$n = held_key(from$n);
        let value$n = held_value(from$n);
        //@ end
        place = place_of(k0 + BK, 0u);
        workgroupBarrier();
        //@ for n in KL
        let at$n = (i$n / (HD / 8u)) * HS + (i$n % (HD / 8u)) * 8u;
        put8(at$n, halves(key$n));
        put8(BK * HS + at$n, halves(value$n));
        //@ end
        if (lid == 0u) {
            grown = 0u;
        }
        workgroupBarrier();

        // Scores of this subgroup's rows. (Loops over keys that are not unrolled measured no slower on an
        // H200, and 8 x 8 matrices would make a long text of them.)
        for (var j = 0u; j < BK / T; j++) {
            //@ for r in RW
            var s$r = MatC();
            //@ end
            //@ for d in ND
            let k$d = coopLoad<MatB>(&kv[(j * T * HS + $du * T) / PER], HS / PER);
            //@ for r in RW
            s$r = coopMultiplyAdd(q_$r_$d, k$d, s$r);
            //@ end
            //@ end
            //@ for r in RW
            let to$r = ((strip + $ru * T) * SS + j * T) / PER;
            let sum$r = s$r;
            coopStoreT(sum$r, &scores[to$r], SS / PER);
            //@ end
        }
        workgroupBarrier();

        var top = LOWEST;
        let whole = k0 + BK <= min(last_key, least_end) && k0 >= most_first;
        //@ for v in NV
        var e$v = score4(row * SS + share0 + 4u * $vu);
        if (!whole) {
            let key = vec4<u32>(k0 + share0 + 4u * $vu) + vec4<u32>(0u, 1u, 2u, 3u);
            let visible = (key < vec4<u32>(last_key)) & (key < vec4<u32>(beyond)) & (key >= vec4<u32>(first));
            e$v = select(vec4<f32>(LOWEST), e$v, visible);
        }
        top = max(top, max(max(e$v.x, e$v.y), max(e$v.z, e$v.w)));
        //@ end
        if (top > m + AHEAD) {
            grown = select(2u, 1u, k0 == first_key);
        }
        let grow = workgroupUniformLoad(&grown);
        if (grow > 0u) {
            rows_of[lid] = top;
            workgroupBarrier();
            for (var i = 0u; i < SHARE; i++) {
                top = max(top, rows_of[mates + i]);
            }
            let higher = max(m, top);
            let decay = exp2(m - higher);
            l *= decay;
            m = higher;
            if (grow == 2u) {
                //@ for i in ND
                {
                    //@ for r in RW
                    let to$r = (strip + $ru * T) * SS / PER;
                    let old$r = acc_$r_$i;
                    coopStoreT(old$r, &scores[to$r], SS / PER);
                    //@ end
                    workgroupBarrier();
                    scale_row(row * SS + (lane % SHARE) * (T / SHARE), decay);
                    workgroupBarrier();
                    //@ for r in RW
                    acc_$r_$i = coopLoadT<MatC>(&scores[to$r], SS / PER);
                    //@ end
                    workgroupBarrier();
                }
                //@ end
            }
        }
        //@ for v in NV
        e$v = select(vec4<f32>(), exp2(e$v - m), e$v > vec4<f32>(LOWEST));
        l += e$v.x + e$v.y + e$v.z + e$v.w;
        put_p(row * PS + share0 + 4u * $vu, e$v);
        //@ end
        workgroupBarrier();

        for (var j = 0u; j < BK / T; j++) {
            //@ for r in RW
            let p$r = coopLoadT<MatA>(&ps[((strip + $ru * T) * PS + j * T) / PER], PS / PER);
            //@ end
            //@ for i in ND
            let v$i = coopLoadT<MatB>(&kv[((BK + j * T) * HS + $iu * T) / PER], HS / PER);
            //@ for r in RW
            acc_$r_$i = coopMultiplyAdd(p$r, v$i, acc_$r_$i);
            //@ end
            //@ end
        }
    }

    workgroupBarrier();
    rows_of[lid] = l;
    workgroupBarrier();
    l = 0.0;
    for (var i = 0u; i < SHARE; i++) {
        l += rows_of[mates + i];
    }
    workgroupBarrier();
    // By row: what the sums are multiplied by, and what the values of the chunks before are.
    if (lane % SHARE == 0u) {
        let at = wid.z * rows * p.kv_heads + head_of(min(row0 + row, rows - 1u), kv_head);
        var mine = select(LOWEST, (m + log2(l)) * LN_2, l > 0.0);
        var share = 1.0 / max(l, 1e-30);
        var rest = 0.0;
        if ((p.flags & MERGE) != 0u) {
            let before = lse[at];
            let high = max(mine, before);
            let a = exp(mine - high);
            let b = exp(before - high);
            share *= a / (a + b);
            rest = b / (a + b);
            mine = high + log(a + b);
        }
        if ((p.flags & KEEP) != 0u && row0 + row < rows) {
            lse[at] = mine;
        }
        rows_of[row] = share;
        rest_of[row] = rest;
    }
    // Two matrices of dimensions at a time, which is what lies side by side where scores were.
    //@ for i in ND
    {
        //@ for r in RW
        let to$r = ((strip + $ru * T) * SS + $iu % 2u * T) / PER;
        let values$r = acc_$r_$i;
        coopStoreT(values$r, &scores[to$r], SS / PER);
        //@ end
        if ($iu % 2u == 1u || $iu + 1u == ND) {
            workgroupBarrier();
            store(strip, row0, rows, kv_head, lane, $iu / 2u * 2u * T, ($iu % 2u + 1u) * T, wid.z);
            workgroupBarrier();
        }
    }
    //@ end
}

// Writes `dims` staged dimensions of this subgroup's rows, from d0 on, into o.
fn store(strip: u32, row0: u32, rows: u32, kv_head: u32, lane: u32, d0: u32, dims: u32, split: u32) {
    let fours = dims / 4u;
    for (var e = lane; e < RW * T * fours; e += SG) {
        let r = strip + e / fours;
        if (row0 + r < rows) {
            let index = (split * rows * p.kv_heads + head_of(row0 + r, kv_head)) * D4 + d0 / 4u + e % fours;
            var v = score4(r * SS + e % fours * 4u) * rows_of[r];
            if (rest_of[r] > 0.0) {
                v += rest_of[r] * o[index];
            }
            o[index] = v;
        }
    }
}
