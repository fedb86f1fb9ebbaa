// One token's attention over the KV cache with what comes before it, in one dispatch, or that of one token
// of each of several slots:
//   q = rope(norm(q)),  k = rope(norm(k)),  cache[position] = k, v,  o = attention(q, cache)
// as qk_norm_rope/kernel.wgsl and kernel.wgsl do in two, where norm is left out if NORM is 0. Where SPREAD is 1,
// q, k and v are turned by a Hadamard matrix of a head's size, and o is turned back (hadamard/kernel.wgsl). Where APART
// is 1, keys lie without their bias, whose part of a score has HD coefficients a query (qk_norm_rope/kernel.wgsl).
//
// state             [slots] of 8 words; word 0: position of the token, or IDLE
// table             [128 + blocks, pairs] of (cos, sin), see rope/kernel.wgsl
// norms             [2, HD] weights for q and for k, read if NORM is 1; or [kv_heads, HD], the bias, if APART is 1
// qkv               [slots, heads + 2 kv_heads, HD] f32: queries, keys, values
// k_cache, v_cache  [positions, kv_heads, HD] of one sequence, or where PAGED is 1 blocks of slots (layout/pages.wgsl);
//                   how values are stored is the fragments'
// o                 [slots, heads, HD] f32, or with several splits [splits, slots, heads, HD]; where TILES is 1,
//                   [slots, heads * HD] f16 in tiles, of one split
// lse               [splits, slots, heads] f32, written with several splits
// oq, om            in place of o and lse if INTS is 1: o in integers, see quantize/kernel.wgsl
//
// One workgroup of WG computes G query heads of one KV head of a slot. What turns heads before and what becomes of sums
// after is here; decode_keys.wgsl walks the keys between. The position's own key and value never come from memory:
// every workgroup computes them, the first of a KV head stores them. Loads for the first keys are on their way before
// anything that waits, and those for the next keys before the present ones are used; that is what a dispatch that
// depends on another lives by.

const D4: u32 = HD / 4u;
const D8: u32 = HD / 8u;
const SUBGROUPS: u32 = WG / SG;
const LOWEST: f32 = -3.0e38;
const IDLE: u32 = 0xffffffffu;

struct Params {
    heads: u32,
    kv_heads: u32,
    pairs: u32,     // rotated pairs of a head
    positions: u32, // of the cache
    splits: u32,
    window: u32,    // 0: all earlier positions
    scale: f32,
    mscale: f32,
    eps: f32,
    slots: u32,
    context: u32,   // blocks of a slot's table
    table: u32,     // word of the state at which tables begin
}

// Which heads a workgroup has.
struct Work {
    slot: u32,
    kv_head: u32,
    member: u32,   // first query head, of those that share the KV head
    split: u32,
    position: u32, // of the slot's token
}

@group(0) @binding(0) var<uniform> p: Params;
//@ if !PAGED
@group(0) @binding(1) var<storage, read> state: array<u32>;
//@ end
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> k_cache: array<Word>;
@group(0) @binding(6) var<storage, read_write> v_cache: array<Word>;
//@ if !INTS
//@ if TILES
@group(0) @binding(7) var<storage, read_write> o: array<vec4<f16>>;
//@ else
@group(0) @binding(7) var<storage, read_write> o: array<vec4<f32>>;
//@ end
@group(0) @binding(8) var<storage, read_write> lse: array<f32>;
//@ else
@group(0) @binding(7) var<storage, read_write> oq: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> om: array<vec2<f32>>;
//@ end

var<workgroup> turned: array<f32, G * HD>;
var<workgroup> key: array<f32, HD>;
var<workgroup> value: array<f32, HD>;
//@ if APART
var<workgroup> coefficients: array<f32, G * HD>;
//@ end
// What each of PARTS has for each head: sums, and (largest score, sum of exponentials). Before that, in place of sums,
// query heads and the key as they are normed.
var<workgroup> sums: array<vec4<f32>, max(PARTS * G, G + 1u) * D4>;
var<workgroup> stats: array<vec2<f32>, PARTS * G>;

//@ if PAGED
// Where position n lies, whose block lies at place `block` of the pool.
fn row_of(block: u32, n: u32) -> u32 {
    return block * BLOCK + n % BLOCK;
}
//@ else
// Where position n lies.
fn row_of(before: u32, n: u32) -> u32 {
    //@ if RING
    return n % p.positions;
    //@ else
    return min(n, p.positions - 1u);
    //@ end
}
//@ end

// Index of 8 values of this lane of key n.
fn at_key(before: u32, n: u32, kv_head: u32, c: u32) -> u32 {
    return (row_of(before, n) * p.kv_heads + kv_head) * D8 + c;
}

// What turns dimension d at `position`: (cos, sin of near), (cos, sin of far).
fn turn_of(d: u32, position: u32) -> vec4<f32> {
    // A dimension that is not turned may have anything here.
    let pairs = max(p.pairs, 1u);
    let i = select(d % pairs, min(d / 2u, pairs - 1u), ADJACENT == 1u);
    let near = table[(position & 127u) * p.pairs + i];
    let far = table[(128u + (position >> 7u)) * p.pairs + i];
    return vec4<f32>(near, far);
}

fn normed(i: u32) -> f32 {
    return sums[i / 4u][i % 4u];
}

fn put_normed(i: u32, x: f32) {
    sums[i / 4u][i % 4u] = x;
}

// Dimension d of a normed head after the rotation by `turn`.
fn rotated(head: u32, d: u32, turn: vec4<f32>) -> f32 {
    let base = head * HD;
    if (d >= 2u * p.pairs) {
        return normed(base + d);
    }
    var partner = select(d - p.pairs, d + p.pairs, d < p.pairs);
    var first = d < p.pairs;
    if (ADJACENT == 1u) {
        partner = d ^ 1u;
        first = (d & 1u) == 0u;
    }
    let c = (turn.x * turn.z - turn.y * turn.w) * p.mscale;
    let s = (turn.y * turn.z + turn.x * turn.w) * p.mscale;
    return normed(base + d) * c + select(s, -s, first) * normed(base + partner);
}

// Query heads into `turned`, times the scale, and the position's own key and value into `key` and `value`. Ends with a
// barrier.
fn turn_heads(w: Work, lid: u32, sid: u32, lane: u32) {
    let group = p.heads / p.kv_heads;
    let first_head = w.slot * (p.heads + 2u * p.kv_heads);
    //@ if !SPREAD
    var turn = turn_of(lid % HD, w.position);
    //@ end
    // A subgroup norms a head: G query heads, then the key.
    for (var h = sid; h <= G; h += SUBGROUPS) {
        let is_key = h == G;
        let head = select(w.kv_head * group + min(w.member + h, group - 1u), p.heads + w.kv_head, is_key);
        let at = (first_head + head) * HD;
        // All loads before the sum, which waits for half of them.
        //@ for i in EACH
        let d$i = lane + $iu * SG;
        var x$i = 0.0;
        var w$i = 1.0;
        if (d$i < HD) {
            x$i = qkv[at + d$i];
            if (NORM == 1u) {
                w$i = norms[select(0u, HD, is_key) + d$i];
            }
            //@ if APART
            if (is_key) {
                x$i -= norms[w.kv_head * HD + d$i];
            }
            //@ end
        }
        //@ end
        var s = 1.0;
        if (NORM == 1u) {
            var squares = 0.0;
            //@ for i in EACH
            squares += x$i * x$i;
            //@ end
            s = inverseSqrt(subgroupAdd(squares) / f32(HD) + p.eps);
        }
        //@ for i in EACH
        if (d$i < HD) {
            put_normed(h * HD + d$i, x$i * (s * w$i));
        }
        //@ end
    }
    //@ if !SPREAD
    for (var d = lid; d < HD; d += WG) {
        value[d] = qkv[(first_head + p.heads + p.kv_heads + w.kv_head) * HD + d];
    }
    //@ end
    workgroupBarrier();
    //@ if SPREAD
    //@ if APART
    for (var i = lid; i < G * HD / 2u; i += WG) {
        let n = i % (HD / 2u);
        let a = select(n, 2u * n, ADJACENT == 1u);
        let b = select(n + HD / 2u, 2u * n + 1u, ADJACENT == 1u);
        let by = turn_of(a, w.position);
        let x = rotated(i / (HD / 2u), a, by);
        let y = rotated(i / (HD / 2u), b, by);
        let bias = vec2<f32>(norms[w.kv_head * HD + a], norms[w.kv_head * HD + b]) * (p.mscale * p.scale);
        let to = i / (HD / 2u) * HD + n / 4u * 8u + n % 4u;
        coefficients[to] = x * bias.x + y * bias.y;
        coefficients[to + 4u] = y * bias.x - x * bias.y;
    }
    //@ end
    // A subgroup turns a head: G query heads, the key, the value.
    for (var h = sid; h < G + 2u; h += SUBGROUPS) {
        var x: array<vec4<f32>, QUADS>;
        for (var i = 0u; i < QUADS; i++) {
            let at = 4u * min(lane + i * SG, D4 - 1u);
            if (h <= G) {
                for (var c = 0u; c < 4u; c++) {
                    x[i][c] = rotated(h, at + c, turn_of(at + c, w.position));
                }
            } else {
                let n = (first_head + p.heads + p.kv_heads + w.kv_head) * HD + at;
                x[i] = vec4<f32>(qkv[n], qkv[n + 1u], qkv[n + 2u], qkv[n + 3u]);
            }
        }
        x = spread(x, lane);
        for (var i = 0u; i < QUADS && lane + i * SG < D4; i++) {
            let at = 4u * (lane + i * SG);
            for (var c = 0u; c < 4u; c++) {
                if (h < G) {
                    turned[h * HD + at + c] = x[i][c] * p.scale;
                } else if (h == G) {
                    key[at + c] = x[i][c];
                } else {
                    value[at + c] = x[i][c];
                }
            }
        }
    }
    //@ else
    for (var i = lid; i < (G + 1u) * HD; i += WG) {
        // Where a head divides the workgroup, an invocation has the same dimension in every round.
        if (WG % HD != 0u) {
            turn = turn_of(i % HD, w.position);
        }
        let x = rotated(i / HD, i % HD, turn);
        if (i < G * HD) {
            turned[i] = x * p.scale;
        } else {
            key[i - G * HD] = x;
        }
    }
    //@ end
    workgroupBarrier();
    find_extremes(lid);
}

//@ if !INTS

// Writes the n-th vec4 of a query head.
fn put(w: Work, head: u32, n: u32, x: vec4<f32>) {
    //@ if TILES
    // Four neighbours of a row are neighbours in their tile.
    o[place(w.slot, head * HD + 4u * n, p.heads * HD) / 4u] = vec4<f16>(out(x.x), out(x.y), out(x.z), out(x.w));
    //@ else
    o[((w.split * p.slots + w.slot) * p.heads + head) * D4 + n] = x;
    //@ end
}
//@ end

// What becomes of the parts of `sums` and `stats`: the output, and key and value in the cache. Begins behind a barrier.
fn finish(w: Work, lid: u32, sid: u32, lane: u32) {
    let group = p.heads / p.kv_heads;
    let head0 = w.kv_head * group + w.member;
    for (var n = lid; n < G * D4; n += WG) {
        let i = n / D4;
        var top = LOWEST;
        for (var s = 0u; s < PARTS; s++) {
            top = max(top, stats[s * G + i].x);
        }
        var sum = vec4<f32>();
        var l = 0.0;
        for (var s = 0u; s < PARTS; s++) {
            let share = exp(stats[s * G + i].x - top);
            sum += share * sums[s * G * D4 + n];
            l += share * stats[s * G + i].y;
        }
        //@ if SPREAD
        sums[n] = sum / max(l, 1e-30);
        //@ end
        if (w.member + i < group) {
            //@ if INTS
            //@ if !SPREAD
            sums[n] = sum / max(l, 1e-30);
            //@ end
            //@ else
            let at = (w.split * p.slots + w.slot) * p.heads + head0 + i;
            //@ if !SPREAD
            put(w, head0 + i, n % D4, sum / max(l, 1e-30));
            //@ end
            if (n % D4 == 0u && p.splits > 1u) {
                lse[at] = select(LOWEST, top + log(l), l > 0.0);
            }
            //@ end
        }
    }
    //@ if SPREAD
    workgroupBarrier();
    // Back, a head a subgroup.
    for (var h = sid; h < G; h += SUBGROUPS) {
        var x: array<vec4<f32>, QUADS>;
        for (var i = 0u; i < QUADS; i++) {
            x[i] = sums[h * D4 + min(lane + i * SG, D4 - 1u)];
        }
        x = spread(x, lane);
        for (var i = 0u; i < QUADS; i++) {
            let n = lane + i * SG;
            if (n < D4 && w.member + h < group) {
                //@ if INTS
                sums[h * D4 + n] = x[i];
                //@ else
                put(w, head0 + h, n, x[i]);
                //@ end
            }
        }
    }
    //@ end
    //@ if INTS
    workgroupBarrier();
    for (var u = lid; u < G * (D4 / 4u); u += WG) {
        if (w.member + u / (D4 / 4u) < group) {
            let unit = unit16(sums[4u * u], sums[4u * u + 1u], sums[4u * u + 2u], sums[4u * u + 3u]);
            let at = (w.slot * p.heads + head0) * (D4 / 4u) + u;
            oq[at] = unit.q;
            om[at] = vec2<f32>(unit.scale, unit.sum);
        }
    }
    //@ end
    if (w.member == 0u && w.split == 0u) {
        //@ if PAGED
        let before = block_at(w.slot, w.position / BLOCK);
        //@ else
        let before = 0u;
        //@ end
        let row = row_of(before, w.position) * p.kv_heads + w.kv_head;
        for (var c = lid; c < D8; c += WG) {
            store_key(row, c, eight_keys(c));
            store_value(row, c, eight_values(c));
        }
    }
}

fn eight_turned(c: u32) -> mat2x4<f32> {
    let i = 8u * c;
    return mat2x4<f32>(
        turned[i], turned[i + 1u], turned[i + 2u], turned[i + 3u],
        turned[i + 4u], turned[i + 5u], turned[i + 6u], turned[i + 7u]);
}
//@ if SPREAD

// A head turned: of its vec4 a lane has those at lane, lane + SG and so on.
fn spread(held: array<vec4<f32>, QUADS>, lane: u32) -> array<vec4<f32>, QUADS> {
    var x = held;
    let scale = 1.0 / sqrt(f32(HD));
    for (var i = 0u; i < QUADS; i++) {
        var v = x[i] * scale;
        v = vec4<f32>(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
        v = vec4<f32>(v.xy + v.zw, v.xy - v.zw);
        for (var step = 1u; step < min(SG, D4); step <<= 1u) {
            let other = subgroupShuffleXor(v, step);
            v = select(other + v, other - v, (lane & step) != 0u);
        }
        x[i] = v;
    }
    for (var step = 1u; step < QUADS; step <<= 1u) {
        for (var i = 0u; i < QUADS; i++) {
            if ((i & step) == 0u) {
                let a = x[i];
                let b = x[i + step];
                x[i] = a + b;
                x[i + step] = a - b;
            }
        }
    }
    return x;
}
//@ end
//@ if APART

fn eight_coefficients(c: u32) -> mat2x4<f32> {
    let i = 8u * c;
    return mat2x4<f32>(
        coefficients[i], coefficients[i + 1u], coefficients[i + 2u], coefficients[i + 3u],
        coefficients[i + 4u], coefficients[i + 5u], coefficients[i + 6u], coefficients[i + 7u]);
}

// The cosines of pairs 4 c to 4 c + 3 at a position, then their sines.
fn phases(position: u32, c: u32) -> mat2x4<f32> {
    var all: mat2x4<f32>;
    for (var i = 0u; i < 4u; i++) {
        let near = table[(position & 127u) * (HD / 2u) + 4u * c + i];
        let far = table[(128u + (position >> 7u)) * (HD / 2u) + 4u * c + i];
        all[0][i] = near.x * far.x - near.y * far.y;
        all[1][i] = near.y * far.x + near.x * far.y;
    }
    return all;
}

// The phases at the sum of two positions.
fn further(a: mat2x4<f32>, b: mat2x4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(a[0] * b[0] - a[1] * b[1], a[1] * b[0] + a[0] * b[1]);
}
//@ end
