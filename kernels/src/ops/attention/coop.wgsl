// Causal attention over the KV cache with cooperative matrices (prefill): as kernel.wgsl, with q, k, v
// and the exponentials rounded to f16 and all sums in f32.
//
// Bindings and splits as in kernel.wgsl, except that o is an array of single values.
//
// One workgroup of four subgroups computes BQ = 4 T query rows of one KV head; each subgroup T of them.
// A matrix in registers cannot be scaled row by row, which online softmax would need, so the keys are
// walked twice: once for each row's largest score and sum of exponentials, once more for the values.
// Scores go through workgroup memory; two invocations share a row's 32 keys.

const BQ: u32 = 4u * T;
const BK: u32 = 32u;
const WG: u32 = 4u * SG;
const HS: u32 = HD + 8u;        // strides, padded against bank conflicts
const SS: u32 = BK + 4u;
const PS: u32 = BK + 8u;
const SHARE: u32 = WG / BQ;     // invocations that share a row
const LOWEST: f32 = -3.0e38;

struct Params {
    token0: u32,    // token of the batch that q begins with
    tokens: u32,
    kv_heads: u32,
    group: u32,     // query heads of a KV head
    position0: u32, // first position of the chunk
    positions: u32,
    splits: u32,
    window: u32,    // 0: all earlier positions
    flags: u32,     // KEEP, MERGE
    scale: f32,
}

const KEEP: u32 = 1u;
const MERGE: u32 = 2u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> o: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;

var<workgroup> scores: array<f32, BQ * SS>;
var<workgroup> tops: array<f32, WG>;
var<workgroup> sums: array<f32, WG>;

// Index of row r in [tokens, heads].
fn head_of(r: u32, kv_head: u32) -> u32 {
    return (r / p.group) * p.kv_heads * p.group + kv_head * p.group + r % p.group;
}

// Scores of this subgroup's rows against the 32 keys in workgroup memory.
fn score(sid: u32) {
    //@ for j in NK
    var s$j = MatC();
    //@ end
    for (var d = 0u; d < HD; d += T) {
        let a = coopLoadT<MatA>(&qs[(sid * T * HS + d) / PER], HS / PER);
        //@ for j in NK
        let b$j = coopLoad<MatB>(&kv[($ju * T * HS + d) / PER], HS / PER);
        s$j = coopMultiplyAdd(a, b$j, s$j);
        //@ end
    }
    //@ for j in NK
    let at$j = sid * T * SS + $ju * T;
    let sum$j = s$j;
    coopStoreT(sum$j, &scores[at$j], SS);
    //@ end
}

// The keys from k0 on, into workgroup memory: all loads first, so that they are in flight together. An
// invocation past the end repeats the last load.
fn load_keys(k0: u32, last_key: u32, kv_head: u32, lid: u32) {
    //@ for n in KL
    let i$n = min(lid + $nu * WG, BK * HD / 8u - 1u);
    let position$n = min(k0 + i$n / (HD / 8u), last_key - 1u) - p.position0;
    let held$n = held_key((position$n * p.kv_heads + kv_head) * (HD / 8u) + i$n % (HD / 8u));
    //@ end
    //@ for n in KL
    let at$n = (i$n / (HD / 8u)) * HS + (i$n % (HD / 8u)) * 8u;
    let keys$n = wide(held$n);
    put_kv(at$n, keys$n[0]);
    put_kv(at$n + 4u, keys$n[1]);
    //@ end
}

// The values from k0 on, likewise.
fn load_values(k0: u32, last_key: u32, kv_head: u32, lid: u32) {
    //@ for n in KL
    let i$n = min(lid + $nu * WG, BK * HD / 8u - 1u);
    let position$n = min(k0 + i$n / (HD / 8u), last_key - 1u) - p.position0;
    let held$n = held_value((position$n * p.kv_heads + kv_head) * (HD / 8u) + i$n % (HD / 8u));
    //@ end
    //@ for n in KL
    let at$n = (i$n / (HD / 8u)) * HS + (i$n % (HD / 8u)) * 8u;
    let values$n = wide(held$n);
    put_kv(at$n, values$n[0]);
    put_kv(at$n + 4u, values$n[1]);
    //@ end
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row0 = wid.x * BQ;
    let kv_head = wid.y;
    let rows = p.tokens * p.group;

    for (var i = lid; i < BQ * HD / 4u; i += WG) {
        let r = min(row0 + i / (HD / 4u), rows - 1u);
        put_q((i / (HD / 4u)) * HS + (i % (HD / 4u)) * 4u,
            q[head_of(r, kv_head) * (HD / 4u) + i % (HD / 4u)] * p.scale);
    }

    // Keys this workgroup walks: those of the chunk that its last row sees, cut into splits.
    let last = position_of(min(row0 + BQ - 1u, rows - 1u) / p.group);
    let end = min(last + 1u, p.position0 + p.positions);
    let begin = max(first_of(row0 / p.group), p.position0);
    let n = max(end, begin) - begin;
    let each = ((n + p.splits - 1u) / p.splits + BK - 1u) / BK * BK;
    let first_key = min(begin + wid.z * each, max(end, begin));
    let last_key = min(first_key + each, max(end, begin));

    // This invocation's row, and its share of the 32 keys.
    let row = lid / SHARE;
    let token = min(row0 + row, rows - 1u) / p.group;
    let seen = position_of(token);
    let first = first_of(token);
    let share0 = (lid % SHARE) * (BK / SHARE);
    var top = LOWEST;
    var sum = 0.0;
    for (var k0 = first_key; k0 < last_key; k0 += BK) {
        load_keys(k0, last_key, kv_head, lid);
        workgroupBarrier();
        score(sid);
        workgroupBarrier();
        for (var j = share0; j < share0 + BK / SHARE; j++) {
            let key = k0 + j;
            if (key < last_key && key <= seen && key >= first) {
                let s = scores[row * SS + j];
                let higher = max(top, s);
                sum = sum * exp(top - higher) + exp(s - higher);
                top = higher;
            }
        }
    }
    tops[lid] = top;
    sums[lid] = sum;
    workgroupBarrier();
    for (var i = 0u; i < SHARE; i++) {
        top = max(top, tops[row * SHARE + i]);
    }
    sum = 0.0;
    for (var i = 0u; i < SHARE; i++) {
        sum += sums[row * SHARE + i] * exp(tops[row * SHARE + i] - top);
    }
    workgroupBarrier();
    // For the end, by row: what the values are multiplied by, and what those of chunks before are.
    if (lid % SHARE == 0u) {
        let at = wid.z * rows * p.kv_heads + head_of(min(row0 + row, rows - 1u), kv_head);
        var mine = select(LOWEST, top + log(sum), sum > 0.0);
        var share = 1.0 / max(sum, 1e-30);
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
        tops[row] = share;
        sums[row] = rest;
    }

    //@ for i in ND
    var acc$i = MatC();
    //@ end
    for (var k0 = first_key; k0 < last_key; k0 += BK) {
        load_keys(k0, last_key, kv_head, lid);
        workgroupBarrier();
        score(sid);
        workgroupBarrier();
        for (var j = share0; j < share0 + BK / SHARE; j++) {
            let key = k0 + j;
            let visible = key < last_key && key <= seen && key >= first;
            put_p(row * PS + j, select(0.0, exp(min(scores[row * SS + j] - top, 0.0)), visible));
        }
        load_values(k0, last_key, kv_head, lid);
        workgroupBarrier();
        for (var k = 0u; k < BK; k += T) {
            let a = coopLoadT<MatA>(&ps[sid * T * PS + k], PS);
            //@ for i in ND
            let b$i = coopLoadT<MatB>(&kv[(k * HS + $iu * T) / PER], HS / PER);
            acc$i = coopMultiplyAdd(a, b$i, acc$i);
            //@ end
        }
        workgroupBarrier();
    }

    let at = sid * T * SS;
    //@ for i in ND
    {
        let values = acc$i;
        coopStoreT(values, &scores[at], SS);
        workgroupBarrier();
        store(at, row0, rows, kv_head, sid, lane, $iu * T, wid.z);
        workgroupBarrier();
    }
    //@ end
}

// One staged matrix, dimensions d0 on of this subgroup's rows, into o.
fn store(at: u32, row0: u32, rows: u32, kv_head: u32, sid: u32, lane: u32, d0: u32, split: u32) {
    for (var e = lane; e < T * T; e += SG) {
        let r = sid * T + e / T;
        if (row0 + r < rows) {
            let index = (split * rows * p.kv_heads + head_of(row0 + r, kv_head)) * HD + d0 + e % T;
            var v = scores[at + (e / T) * SS + e % T] * tops[r];
            if (sums[r] > 0.0) {
                v += sums[r] * o[index];
            }
            o[index] = v;
        }
    }
}
