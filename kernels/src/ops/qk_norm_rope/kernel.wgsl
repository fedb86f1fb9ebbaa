// What happens to queries, keys and values between their projections and attention, a head at a time:
//   q = rope(norm(q)),  k_cache[position] = rope(norm(k)),  v_cache[position] = v
//   norm(x)[i] = x[i] w[i] / sqrt(mean(x^2) + eps) if NORM is 1 (QK-norm, Henry et al. 2020,
//   arXiv:2010.04245), else x
// RoPE as in rope/kernel.wgsl: pair i is (2i, 2i+1) when ADJACENT is 1, else (i, i + pairs).
// Where SPREAD is not 0, all three are then turned by a Hadamard matrix, in blocks of SPREAD (hadamard/kernel.wgsl),
// because a cache with one scale for several values loses least when they are of one size.
// Where APART is 1, keys are stored without their bias b. Its part of the score of a key at position n is
//   q . R(n) b = sum_i A_i cos(n w_i) + B_i sin(n w_i),   A_i = q_i b_i + q'_i b'_i,   B_i = q'_i b_i - q_i b'_i
// over the pairs of a head, where i and i' are the first and the second of a pair: a query is followed by A and B.
//
// Which position a token has, and where its key goes, is the fragment's (cached.wgsl, slots.wgsl, paged.wgsl,
// packed.wgsl), which declares binding 1.
// table             [128 + blocks, pairs] of (cos, sin), see rope/kernel.wgsl
// norms             [2, HD] weights for q and for k, read if NORM is 1; or [kv_heads, HD], b, if APART is 1
// qkv               [tokens, heads + 2 kv_heads, HD] f32: queries, keys, values
// q                 [tokens, heads, HD] f32; if APART is 1 [tokens, heads, 2, HD], in the second half A and B of four
//                   pairs each time
// k_cache, v_cache  one chunk of the cache: [positions, kv_heads, HD], stored by the fragment
//
// One workgroup of 64 serves one head of one token: query heads first, then KV heads, each with its key
// and its value. Where the cache is split, the chunk that holds the token's position stores it, and the first
// chunk's dispatch rotates the queries.

const WG: u32 = 64u;

struct Params {
    token0: u32,    // token of the batch that qkv begins with
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    pairs: u32,     // rotated pairs of a head
    position0: u32, // first position of the chunk
    positions: u32,
    queries: u32,   // 1: also the query heads
    grid_x: u32,
    mscale: f32,
    eps: f32,
    context: u32,   // positions of a slot or of a ring, or blocks of a slot's table, or 0
    chunk: u32,     // which of the chunks of a pool of blocks
    chunks: u32,
    table: u32,     // word of the state at which tables begin
    piece: u32,     // and that of the state of a prompt's piece
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> qkv: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> q: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> k_cache: array<Word>;
@group(0) @binding(7) var<storage, read_write> v_cache: array<Word>;

var<workgroup> key: array<f32, HD>;
var<workgroup> value: array<f32, HD>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = wid.x + wid.y * p.grid_x;
    let each = p.heads * p.queries + p.kv_heads;
    if (n >= p.tokens * each) {
        return;
    }
    let token = n / each;
    let is_key = n % each >= p.heads * p.queries;
    let head = n % each - select(0u, p.heads * p.queries, is_key);
    let position = position_of(token);
    // An idle slot has no token.
    if (position == 0xffffffffu) {
        return;
    }
    let place = place_of(token);
    if (is_key && (place < p.position0 || place - p.position0 >= p.positions)) {
        return;
    }
    let at = (token * (p.heads + 2u * p.kv_heads) + select(0u, p.heads, is_key) + head) * (HD / 2u);

    var squares = 0.0;
    for (var i = lid; i < HD / 2u; i += WG) {
        let pair = qkv[at + i];
        x[2u * i] = pair.x;
        x[2u * i + 1u] = pair.y;
        //@ if APART
        if (is_key) {
            x[2u * i] -= norms[head * HD + 2u * i];
            x[2u * i + 1u] -= norms[head * HD + 2u * i + 1u];
        }
        //@ end
        squares += dot(pair, pair);
    }
    if (NORM == 1u) {
        let scale = inverseSqrt(wg_sum(squares, lid) / f32(HD) + p.eps);
        for (var i = lid; i < HD; i += WG) {
            x[i] *= scale * norms[select(0u, HD, is_key) + i];
        }
    }
    workgroupBarrier();
    for (var i = lid; i < HD / 2u; i += WG) {
        let turned = vec2<f32>(rotated(2u * i, position, 1.0), rotated(2u * i + 1u, position, 1.0));
        //@ if SPREAD
        key[2u * i] = turned.x;
        key[2u * i + 1u] = turned.y;
        if (is_key) {
            let pair = qkv[at + p.kv_heads * (HD / 2u) + i];
            value[2u * i] = pair.x;
            value[2u * i + 1u] = pair.y;
        }
        //@ else
        if (is_key) {
            key[2u * i] = turned.x;
            key[2u * i + 1u] = turned.y;
            let pair = qkv[at + p.kv_heads * (HD / 2u) + i];
            value[2u * i] = pair.x;
            value[2u * i + 1u] = pair.y;
        } else {
            q[(token * p.heads + head) * (HD / 2u) + i] = turned;
        }
        //@ end
    }
    //@ if SPREAD
    let to = (token * p.heads + head) * ((1u + APART) * HD / 2u);
    //@ if APART
    workgroupBarrier();
    if (!is_key) {
        let kv_head = head / (p.heads / p.kv_heads);
        for (var i = lid; i < HD / 4u; i += WG) {
            let c = coefficients(2u * i, kv_head);
            let d = coefficients(2u * i + 1u, kv_head);
            let pair = to + HD / 2u + i / 2u * 4u + i % 2u;
            q[pair] = vec2<f32>(c.x, d.x);
            q[pair + 2u] = vec2<f32>(c.y, d.y);
        }
    }
    //@ end
    spread(lid, is_key);
    if (!is_key) {
        for (var i = lid; i < HD / 2u; i += WG) {
            q[to + i] = vec2<f32>(key[2u * i], key[2u * i + 1u]);
        }
        return;
    }
    //@ else
    if (!is_key) {
        return;
    }
    workgroupBarrier();
    //@ end
    find_extremes(lid);
    let row = (place - p.position0) * p.kv_heads + head;
    for (var c = lid; c < HD / 8u; c += WG) {
        store_key(row, c, eight_keys(c));
        store_value(row, c, eight_values(c));
    }
}
//@ if APART

// A and B of pair i of the query in `key`.
fn coefficients(i: u32, kv_head: u32) -> vec2<f32> {
    let a = select(i, 2u * i, ADJACENT == 1u);
    let b = select(i + HD / 2u, 2u * i + 1u, ADJACENT == 1u);
    let bias = vec2<f32>(norms[kv_head * HD + a], norms[kv_head * HD + b]) * p.mscale;
    return vec2<f32>(key[a] * bias.x + key[b] * bias.y, key[b] * bias.x - key[a] * bias.y);
}
//@ end
//@ if SPREAD

// Turns what is in `key`, and with `both` what is in `value`.
fn spread(lid: u32, both: bool) {
    workgroupBarrier();
    for (var step = 1u; step < SPREAD; step <<= 1u) {
        for (var i = lid; i < HD / 2u; i += WG) {
            let at = i / step * 2u * step + i % step;
            let a = key[at];
            let b = key[at + step];
            key[at] = a + b;
            key[at + step] = a - b;
            if (both) {
                let c = value[at];
                let d = value[at + step];
                value[at] = c + d;
                value[at + step] = c - d;
            }
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(f32(SPREAD));
    for (var i = lid; i < HD; i += WG) {
        key[i] *= scale;
        value[i] *= scale;
    }
    workgroupBarrier();
}
//@ end
