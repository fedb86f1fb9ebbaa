// What happens to queries, keys and values of a training batch, as in kernel.wgsl, for heads that are rotated
// as a whole:  q = rope(norm(q)),  k = rope(norm(k)),  v = v
//
// Which position a token has is the fragment's (packed.wgsl), which declares binding 1.
// table    [128 + blocks, HD / 2] of (cos, sin), see rope/kernel.wgsl
// norms    [2, HD] weights for q and for k, read if NORM is 1
// qkv      [tokens, heads + 2 kv_heads, HD] f32: queries, keys, values
// q, k, v  [tokens, heads or kv_heads, HD] f32
//
// One workgroup serves PER heads, with lanes as in lanes.wgsl.

struct Params {
    token0: u32, // token of the batch that the tensors begin with
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    pairs: u32,  // rotated pairs of a head
    grid_x: u32,
    mscale: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> qkv: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> k: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> v: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let each = p.heads + 2u * p.kv_heads;
    let lane = lid % LANES;
    let mine = (wid.x + wid.y * p.grid_x) * PER + lid / LANES;
    let there = lid < PER * LANES && mine < p.tokens * each;
    // Who has no head computes the last one, and drops it.
    let n = min(mine, p.tokens * each - 1u);
    let token = n / each;
    let head = n % each;
    let place = places(lane);
    let x = qkv[n * (HD / 4u) + place.x];
    let y = qkv[n * (HD / 4u) + place.y];
    let squares = head_sum(vec2<f32>(dot(x, x) + dot(y, y), 0.0), lid).x;
    if (!there) {
        return;
    }
    if (head >= p.heads + p.kv_heads) {
        let to = (token * p.kv_heads + head - p.heads - p.kv_heads) * (HD / 4u);
        v[to + place.x] = x;
        v[to + place.y] = y;
        return;
    }
    let is_key = head >= p.heads;
    var a = x;
    var b = y;
    if (NORM == 1u) {
        let scale = inverseSqrt(squares / f32(HD) + p.eps);
        let w = select(0u, HD / 4u, is_key);
        a *= scale * norms[w + place.x];
        b *= scale * norms[w + place.y];
    }
    let out = unpaired(turned(paired(a, b), lane, position_of(token), 1.0));
    if (is_key) {
        let to = (token * p.kv_heads + head - p.heads) * (HD / 4u);
        k[to + place.x] = out.a;
        k[to + place.y] = out.b;
    } else {
        let to = (token * p.heads + head) * (HD / 4u);
        q[to + place.x] = out.a;
        q[to + place.y] = out.b;
    }
}
