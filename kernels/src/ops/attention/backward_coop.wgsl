// A gradient of attention with cooperative matrices (FlashAttention-2, Dao 2023, arXiv:2307.08691), one of:
//   dq[t, h, :]  = scale sum_j ds[t, h, j] k[j, h / G, :]     OWN_KEYS 0
//   dk[j, h', :] = scale sum_t,h ds[t, h, j] q[t, h, :]       OWN_KEYS 1
//   dv[j, h', :] = sum_t,h p[t, h, j] g[t, h, :]              OWN_KEYS 1, VALUES 1
//   ds = p (g[t, h] . v[j] - D[t, h]),   p = exp(scale q[t, h] . k[j] - lse[t, h])
// as backward_q.wgsl and backward_kv.wgsl, with matrices of f16 and sums in f32. Gradients are scaled by a
// power of 2 that makes the largest one about 1, so that f16 holds them.
//
// spans     [all tokens]: first token of the token's sequence, and one past its last
// q, g      [tokens, heads, HD] f32: tokens token0 on; g is the gradient of the outputs
// k, v      [keys, kv_heads, HD] f32: tokens key0 on
// stats     [tokens, heads] of (lse, D), see backward_delta.wgsl
// peak      [1] bits of the largest magnitude in g
// gradient  dq as q, or dk or dv as k
//
// One workgroup of NSG subgroups computes BQ own rows of one KV head: query rows (see kernel.wgsl), or keys; a subgroup
// has the T rows of a matrix. It walks the others, BK at a time, and adds to what earlier ones left if `more` is set.
// What is walked is, as in coop.wgsl, shared, loaded ahead and put into the other of two places, and scores and weights
// are of one subgroup, whose barriers order them.

const BQ: u32 = NSG * T;
const WG: u32 = NSG * SG;
const HS: u32 = HD + 8u;        // strides, padded against bank conflicts
const SS: u32 = BK + 4u;
const PS: u32 = BK + 8u;
const D4: u32 = HD / 4u;
const SHARE: u32 = SG / T;      // lanes that share a row
const D8: u32 = HD / 8u;
const SCORES: u32 = 2u - VALUES; // tiles of scores, and of g . v
const TILE: u32 = 2u * BK * HS;
const BESIDE: u32 = BK / T;     // matrices of scores in a row of them
const LOG2_E: f32 = 1.4426950408889634;

struct Params {
    token0: u32,   // first token of q
    tokens: u32,
    key0: u32,     // first token of k
    keys: u32,
    kv_heads: u32,
    group: u32,    // G = heads / kv_heads
    more: u32,
    scale: f32,
    window: u32,   // 0: all earlier tokens
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> k: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> peak: array<f32>;
@group(0) @binding(8) var<storage, read_write> gradient: array<vec4<f32>>;

// What belongs to the walked query rows: (lse, D), and the first token they see.
var<workgroup> walked_stat: array<vec2<f32>, 2u * BK>;
var<workgroup> walked_first: array<u32, 2u * BK>;

fn query_at(r: u32, kv_head: u32) -> u32 {
    return (r / p.group) * p.kv_heads * p.group + kv_head * p.group + r % p.group;
}

fn key_at(r: u32, kv_head: u32) -> u32 {
    return r * p.kv_heads + kv_head;
}

fn own_at(r: u32, kv_head: u32) -> u32 {
    if (OWN_KEYS == 1u) {
        return key_at(r, kv_head);
    }
    return query_at(r, kv_head);
}

fn walked_at(r: u32, kv_head: u32) -> u32 {
    if (OWN_KEYS == 1u) {
        return query_at(r, kv_head);
    }
    return key_at(r, kv_head);
}

// Four values of the rows whose products are scores, and of those that meet in g . v.
fn own_score(i: u32) -> vec4<f32> {
    if (OWN_KEYS == 1u) {
        return k[i];
    }
    return q[i];
}

fn walked_score(i: u32) -> vec4<f32> {
    if (OWN_KEYS == 1u) {
        return q[i];
    }
    return k[i];
}

fn own_other(i: u32, by: f32) -> vec4<f32> {
    if (OWN_KEYS == 1u) {
        return v[i];
    }
    return g[i] * by;
}

fn walked_other(i: u32, by: f32) -> vec4<f32> {
    if (OWN_KEYS == 1u) {
        return g[i] * by;
    }
    return v[i];
}

fn halves(a: vec4<f32>, b: vec4<f32>) -> mat2x4<f16> {
    return mat2x4<f16>(vec4<f16>(a), vec4<f16>(b));
}

fn walked_scores(r: u32, last: u32, kv_head: u32, c: u32) -> mat2x4<f16> {
    let at = walked_at(min(r, last), kv_head) * D4 + 2u * c;
    return halves(walked_score(at), walked_score(at + 1u));
}

fn walked_others(r: u32, last: u32, kv_head: u32, c: u32, by: f32) -> mat2x4<f16> {
    let at = walked_at(min(r, last), kv_head) * D4 + 2u * c;
    return halves(walked_other(at, by), walked_other(at + 1u, by));
}

// naga takes a subgroup for what differs between invocations, and matrices in a branch by it for an error.
@diagnostic(off, derivative_uniformity)
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row0 = wid.y * BQ;
    let kv_head = wid.x;
    // The power of 2 that the gradients are scaled by; 1 where all are 0.
    let largest = max(peak[0], 1e-30);
    let by = exp2(-floor(log2(largest)));

    // What is own, and which of the others meet it.
    var rows = p.tokens * p.group;
    var first_own = p.token0;
    if (OWN_KEYS == 1u) {
        rows = p.keys;
        first_own = p.key0;
    }
    let last = min(row0 + BQ, rows) - 1u;
    var begin = 0u;
    var end = 0u;
    if (OWN_KEYS == 1u) {
        begin = (max(p.key0 + row0, p.token0) - p.token0) * p.group;
        end = (clamp(seen_until(p.key0 + last), p.token0, p.token0 + p.tokens) - p.token0) * p.group;
    } else {
        begin = max(first_of(p.token0 + row0 / p.group), p.key0) - p.key0;
        end = max(min(p.token0 + last / p.group + 1u, p.key0 + p.keys), p.key0) - p.key0;
    }

    // Own rows, through the tile of the walked ones, into registers: all loads before the first store, so that they are
    // in flight together, which short sequences feel.
    //@ for h in RP
    //@ for n in RL
    let o_$h_$n = lid + ($hu * RL + $nu) * WG;
    let own_at_$h_$n = own_at(min(row0 + o_$h_$n / D4, rows - 1u), kv_head) * D4 + o_$h_$n % D4;
    let own_one_$h_$n = own_score(own_at_$h_$n) * (p.scale * LOG2_E);
    //@ if !VALUES
    let own_two_$h_$n = own_other(own_at_$h_$n, by);
    //@ end
    //@ end
    //@ end
    //@ for d in ND
    var a_$d = MatA();
    //@ if !VALUES
    var b_$d = MatA();
    //@ end
    //@ end
    //@ for h in RP
    //@ for n in RL
    put4((o_$h_$n / D4 - $hu * (BQ / RP)) * HS + o_$h_$n % D4 * 4u, own_one_$h_$n);
    //@ end
    workgroupBarrier();
    if (sid / (NSG / RP) == $hu) {
        //@ for d in ND
        a_$d = coopLoadT<MatA>(&kv[(sid % (NSG / RP) * T * HS + $du * T) / PER], HS / PER);
        //@ end
    }
    workgroupBarrier();
    //@ if !VALUES
    //@ for n in RL
    put4((o_$h_$n / D4 - $hu * (BQ / RP)) * HS + o_$h_$n % D4 * 4u, own_two_$h_$n);
    //@ end
    workgroupBarrier();
    if (sid / (NSG / RP) == $hu) {
        //@ for d in ND
        b_$d = coopLoadT<MatA>(&kv[(sid % (NSG / RP) * T * HS + $du * T) / PER], HS / PER);
        //@ end
    }
    workgroupBarrier();
    //@ end
    //@ end

    let strip = sid * T;
    let row = strip + lane / SHARE;
    let share0 = (lane % SHARE) * (BK / SHARE);
    let mine = min(row0 + row, rows - 1u);
    var own_token = first_own + mine;
    var own_first = 0u;
    var own_stat = vec2<f32>();
    if (OWN_KEYS == 0u) {
        own_token = first_own + mine / p.group;
        own_first = first_of(own_token);
        own_stat = stats[query_at(mine, kv_head)];
    }
    //@ for i in ND
    var acc_$i = MatC();
    //@ end

    // What belongs to the walked query rows, and eights of the walked rows, a step ahead.
    var stat_ahead = vec2<f32>();
    var first_ahead = 0u;
    if (OWN_KEYS == 1u && lid < BK) {
        let r = min(begin + lid, max(end, 1u) - 1u);
        stat_ahead = stats[query_at(r, kv_head)];
        first_ahead = first_of(p.token0 + r / p.group);
    }
    //@ for n in KL
    let i$n = min(lid + $nu * WG, BK * D8 - 1u);
    var one$n = walked_scores(begin + i$n / D8, max(end, 1u) - 1u, kv_head, i$n % D8);
    var two$n = walked_others(begin + i$n / D8, max(end, 1u) - 1u, kv_head, i$n % D8, by);
    //@ end
    var tile = 0u; // which of the two places, in values
    for (var walk = begin; walk < end; walk += BK) {
        tile = TILE - tile;
        //@ for n in KL
        put8(tile + i$n / D8 * HS + i$n % D8 * 8u, one$n);
        put8(tile + BK * HS + i$n / D8 * HS + i$n % D8 * 8u, two$n);
        //@ end
        let walked = tile / TILE * BK;
        if (OWN_KEYS == 1u && lid < BK) {
            walked_stat[walked + lid] = stat_ahead;
            walked_first[walked + lid] = first_ahead;
        }
        workgroupBarrier();

        if (OWN_KEYS == 1u && lid < BK) {
            let r = min(walk + BK + lid, end - 1u);
            stat_ahead = stats[query_at(r, kv_head)];
            first_ahead = first_of(p.token0 + r / p.group);
        }
        //@ for n in KL
        one$n = walked_scores(walk + BK + i$n / D8, end - 1u, kv_head, i$n % D8);
        two$n = walked_others(walk + BK + i$n / D8, end - 1u, kv_head, i$n % D8, by);
        //@ end
        for (var j = 0u; j < BK / T; j++) {
            var s = MatC();
            //@ for d in ND
            let x$d = coopLoad<MatB>(&kv[(tile + j * T * HS + $du * T) / PER], HS / PER);
            s = coopMultiplyAdd(a_$d, x$d, s);
            //@ end
            let to = (strip * SS + j * T) / PER;
            let sum = s;
            coopStoreT(sum, &scores[to], SS / PER);
            //@ if !VALUES
            {
                var o = MatC();
                //@ for d in ND
                let y$d = coopLoad<MatB>(&kv[(tile + (BK + j * T) * HS + $du * T) / PER], HS / PER);
                o = coopMultiplyAdd(b_$d, y$d, o);
                //@ end
                let other_to = ((BQ + strip) * SS + j * T) / PER;
                let other = o;
                coopStoreT(other, &scores[other_to], SS / PER);
            }
            //@ end
        }
        subgroupBarrier();
        //@ for v in NV
        let n$v = vec4<u32>(share0 + 4u * $vu) + vec4<u32>(0u, 1u, 2u, 3u);
        var token$v = vec4<u32>(own_token);
        var key$v = vec4<u32>(p.key0 + walk) + n$v;
        var first$v = vec4<u32>(own_first);
        var lse$v = vec4<f32>(own_stat.x);
        var mean$v = vec4<f32>(own_stat.y);
        if (OWN_KEYS == 1u) {
            token$v = vec4<u32>(p.token0) + (vec4<u32>(walk) + n$v) / vec4<u32>(p.group);
            key$v = vec4<u32>(own_token);
            let at = walked + share0 + 4u * $vu;
            let s0 = walked_stat[at];
            let s1 = walked_stat[at + 1u];
            let s2 = walked_stat[at + 2u];
            let s3 = walked_stat[at + 3u];
            lse$v = vec4<f32>(s0.x, s1.x, s2.x, s3.x);
            mean$v = vec4<f32>(s0.y, s1.y, s2.y, s3.y);
            first$v = vec4<u32>(
                walked_first[at], walked_first[at + 1u], walked_first[at + 2u], walked_first[at + 3u]);
        }
        let visible$v = (vec4<u32>(walk) + n$v < vec4<u32>(end)) & (key$v <= token$v) & (key$v >= first$v);
        // Clamped, since the exponential of a score that is masked may overflow; a little above 0 is what
        // rounding makes of a score that is all of its row.
        let e$v = exp2(min(score4(row * SS + share0 + 4u * $vu) - lse$v * LOG2_E, vec4<f32>(1.0)));
        var w$v = select(vec4<f32>(), e$v, visible$v);
        //@ end
        if (VALUES == 0u) {
            //@ for v in NV
            w$v *= score4((BQ + row) * SS + share0 + 4u * $vu) - by * mean$v;
            //@ end
        }
        //@ for v in NV
        put_p(row * PS + share0 + 4u * $vu, w$v);
        //@ end
        subgroupBarrier();
        for (var j = 0u; j < BK / T; j++) {
            let weights = coopLoadT<MatA>(&ps[(strip * PS + j * T) / PER], PS / PER);
            //@ for i in ND
            let z$i = coopLoadT<MatB>(&kv[(tile + (VALUES * BK + j * T) * HS + $iu * T) / PER], HS / PER);
            acc_$i = coopMultiplyAdd(weights, z$i, acc_$i);
            //@ end
        }
    }

    let factor = select(p.scale, 1.0, VALUES == 1u) / by;
    // This takes as many matrices at a time as lie side by side where scores were.
    //@ for i in ND
    {
        let to = (strip * SS + $iu % BESIDE * T) / PER;
        let values = acc_$i;
        coopStoreT(values, &scores[to], SS / PER);
        if (($iu + 1u) % BESIDE == 0u || $iu + 1u == ND) {
            subgroupBarrier();
            store(row0, strip, rows, kv_head, lane, $iu / BESIDE * BESIDE * T, ($iu % BESIDE + 1u) * T, factor);
            subgroupBarrier();
        }
    }
    //@ end
}

// Writes `dims` staged dimensions of this subgroup's rows, from d0 on, into the gradient.
fn store(row0: u32, strip: u32, rows: u32, kv_head: u32, lane: u32, d0: u32, dims: u32, factor: f32) {
    let fours = dims / 4u;
    for (var e = lane; e < T * fours; e += SG) {
        let r = strip + e / fours;
        if (row0 + r < rows) {
            let at = own_at(row0 + r, kv_head) * D4 + d0 / 4u + e % fours;
            var sum = score4(r * SS + e % fours * 4u) * factor;
            if (p.more == 1u) {
                sum += gradient[at];
            }
            gradient[at] = sum;
        }
    }
}
