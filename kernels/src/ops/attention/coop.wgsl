// Causal attention with cooperative matrices (prefill): as kernel.wgsl, with q, k, v and the exponentials
// rounded to f16 and all sums in f32. Bindings and splits as there, and the grid is (KV heads, tiles of rows, splits).
//
// One workgroup of NSG subgroups computes BQ query rows of one KV head, BK keys at a time; a subgroup has the T rows
// of a matrix. Queries and sums stay in registers, scores go through workgroup memory, where SHARE lanes share a
// row. A matrix in registers cannot be scaled row by row, which online softmax asks for whenever a row's largest
// score grows. So exponentials are taken relative to a maximum that follows only when it has been left behind by
// 2^8 (f16 holds 2^15): after the first keys that is rare, and then the sums take the way through workgroup memory
// (the idea is FlashAttention-4's). Tiles of rows with the most keys come first, so that the last workgroups to run
// are short ones.
//
// Keys and values are what subgroups share. While a tile of them is used, the next one is on its way in registers,
// and goes to the other of two places, so that subgroups meet once a tile. Scores, exponentials and sums are of one
// subgroup's rows: a barrier of the subgroup orders them (in workgroup memory as well: see barriers.rs of the
// runtime), and while one subgroup takes exponentials another can multiply. Eight subgroups of 16 rows were faster
// on an H200 than four of 32, though each loads all keys and values from workgroup memory: there are more that can.

const BQ: u32 = NSG * T;
const WG: u32 = NSG * SG;
const D4: u32 = HD / 4u;
const D8: u32 = HD / 8u;
const HS: u32 = HD + 8u;        // strides, padded against bank conflicts
const SS: u32 = BK + 4u;
const SCORES: u32 = 1u;
const BESIDE: u32 = BK / T;     // matrices of scores in a row of them
const TILE: u32 = 2u * BK * HS; // keys and values
const PS: u32 = BK + 8u;
const SHARE: u32 = SG / T;
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

// What the sums of a row are multiplied by at the end, and what the values of the chunks before are multiplied by.
var<workgroup> share_of: array<f32, BQ>;
var<workgroup> rest_of: array<f32, BQ>;

// Index of row r in [tokens, heads].
fn head_of(r: u32, kv_head: u32) -> u32 {
    return (r / p.group) * p.kv_heads * p.group + kv_head * p.group + r % p.group;
}

// Where the i-th eight values of a tile of keys lie, of which `left` are there from the one at `place` on.
fn eight_at(place: u32, i: u32, left: u32, kv_head: u32) -> u32 {
    return ((place + min(i / D8, left - 1u)) * p.kv_heads + kv_head) * D8 + i % D8;
}

// naga takes a vote of a subgroup for what differs between its invocations, and matrices in a branch by it for an error.
@diagnostic(off, derivative_uniformity)
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

    // Queries, through the tiles of keys and values, into registers: all loads before the first store, so that they
    // are in flight together, which short sequences feel. Exponentials are powers of 2.
    let scale = p.scale * 1.4426950408889634;
    //@ for h in RP
    //@ for n in RL
    let place_$h_$n = lid + ($hu * RL + $nu) * WG;
    let row_$h_$n = min(row0 + place_$h_$n / D4, rows - 1u);
    let query_$h_$n = q[head_of(row_$h_$n, kv_head) * D4 + place_$h_$n % D4] * scale;
    //@ end
    //@ end
    //@ for d in ND
    var q_$d = MatA();
    //@ end
    //@ for h in RP
    //@ for n in RL
    put4((place_$h_$n / D4 - $hu * (BQ / RP)) * HS + place_$h_$n % D4 * 4u, query_$h_$n);
    //@ end
    workgroupBarrier();
    if (sid / (NSG / RP) == $hu) {
        //@ for d in ND
        q_$d = coopLoadT<MatA>(&kv[(sid % (NSG / RP) * T * HS + $du * T) / PER], HS / PER);
        //@ end
    }
    workgroupBarrier();
    //@ end

    // This lane's row, and its share of the keys.
    let strip = sid * T;
    let row = strip + lane / SHARE;
    let share0 = (lane % SHARE) * (BK / SHARE);
    let token = min(row0 + row, rows - 1u) / p.group;
    let beyond = end_of(token);
    let first = first_of(token);
    var m = LOWEST;
    var l = 0.0;
    //@ for i in ND
    var acc_$i = MatC();
    //@ end

    // Keys and values of the tile that comes next. An invocation past the end repeats the last load.
    //@ for n in KL
    let i$n = min(lid + $nu * WG, BK * D8 - 1u);
    let at$n = i$n / D8 * HS + i$n % D8 * 8u;
    var key$n: Held;
    var value$n: Held;
    //@ end
    if (first_key < last_key) {
        let place = place_of(first_key, 0u);
        //@ for n in KL
        let from$n = eight_at(place, i$n, last_key - first_key, kv_head);
        key$n = held_key(from$n);
        value$n = held_value(from$n);
        //@ end
    }
    var tile = 0u; // which of the two places, in values
    for (var k0 = first_key; k0 < last_key; k0 += BK) {
        tile = TILE - tile;
        //@ for n in KL
        put8(tile + at$n, halves(key$n));
        put8(tile + BK * HS + at$n, halves(value$n));
        //@ end
        workgroupBarrier();
        let next = k0 + BK;
        if (next < last_key) {
            let place = place_of(next, 0u);
            //@ for n in KL
            let from$n = eight_at(place, i$n, last_key - next, kv_head);
            key$n = held_key(from$n);
            value$n = held_value(from$n);
            //@ end
        }

        // Scores of this subgroup's rows. (Loops over keys that are not unrolled measured no slower on an
        // H200, and 8 x 8 matrices would make a long text of them.)
        for (var j = 0u; j < BK / T; j++) {
            var s = MatC();
            //@ for d in ND
            let k$d = coopLoad<MatB>(&kv[(tile + j * T * HS + $du * T) / PER], HS / PER);
            s = coopMultiplyAdd(q_$d, k$d, s);
            //@ end
            let to = (strip * SS + j * T) / PER;
            let sum = s;
            coopStoreT(sum, &scores[to], SS / PER);
        }
        subgroupBarrier();

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
        if (subgroupAny(top > m + AHEAD)) {
            for (var i = 1u; i < SHARE; i *= 2u) {
                top = max(top, subgroupShuffleXor(top, i));
            }
            let higher = max(m, top);
            let decay = exp2(m - higher);
            l *= decay;
            m = higher;
            if (k0 != first_key) {
                //@ for i in ND
                {
                    subgroupBarrier();
                    let to = strip * SS / PER;
                    let old = acc_$i;
                    coopStoreT(old, &scores[to], SS / PER);
                    subgroupBarrier();
                    scale_row(row * SS + (lane % SHARE) * (T / SHARE), decay);
                    subgroupBarrier();
                    acc_$i = coopLoadT<MatC>(&scores[to], SS / PER);
                }
                //@ end
            }
        }
        // Far above what masks a key and far below any score, so that a row without keys has exponentials of 0.
        let origin = max(m, -1.0e30);
        //@ for v in NV
        e$v = exp2(e$v - origin);
        l += e$v.x + e$v.y + e$v.z + e$v.w;
        put_p(row * PS + share0 + 4u * $vu, e$v);
        //@ end
        subgroupBarrier();

        for (var j = 0u; j < BK / T; j++) {
            let weights = coopLoadT<MatA>(&ps[(strip * PS + j * T) / PER], PS / PER);
            //@ for i in ND
            let v$i = coopLoadT<MatB>(&kv[(tile + (BK + j * T) * HS + $iu * T) / PER], HS / PER);
            acc_$i = coopMultiplyAdd(weights, v$i, acc_$i);
            //@ end
        }
    }

    for (var i = 1u; i < SHARE; i *= 2u) {
        l += subgroupShuffleXor(l, i);
    }
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
        share_of[row] = share;
        rest_of[row] = rest;
    }
    // This takes as many matrices at a time as lie side by side where scores were.
    //@ for i in ND
    {
        let to = (strip * SS + $iu % BESIDE * T) / PER;
        let values = acc_$i;
        coopStoreT(values, &scores[to], SS / PER);
        if (($iu + 1u) % BESIDE == 0u || $iu + 1u == ND) {
            subgroupBarrier();
            store(strip, row0, rows, kv_head, lane, $iu / BESIDE * BESIDE * T, ($iu % BESIDE + 1u) * T, wid.z);
            subgroupBarrier();
        }
    }
    //@ end
}

// Writes `dims` staged dimensions of this subgroup's rows, from d0 on, into o.
fn store(strip: u32, row0: u32, rows: u32, kv_head: u32, lane: u32, d0: u32, dims: u32, split: u32) {
    let fours = dims / 4u;
    for (var e = lane; e < T * fours; e += SG) {
        let r = strip + e / fours;
        if (row0 + r < rows) {
            let index = (split * rows * p.kv_heads + head_of(row0 + r, kv_head)) * D4 + d0 / 4u + e % fours;
            var v = score4(r * SS + e % fours * 4u) * share_of[r];
            if (rest_of[r] > 0.0) {
                v += rest_of[r] * o[index];
            }
            o[index] = v;
        }
    }
}
