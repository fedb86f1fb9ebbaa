// Gradient of lanes_forward.wgsl with respect to its input, as in backward.wgsl:
//   u = rope back(dy),  dx[i] = s (w[i] u[i] - x[i] s^2 mean(w u x)),  s = 1 / sqrt(mean(x^2) + eps)
// and dx = u where there is no norm. A value's gradient passes through.
//
// Which position a token has is the fragment's (packed.wgsl), which declares binding 1.
// table       [128 + blocks, HD / 2] of (cos, sin), see rope/kernel.wgsl
// norms       [2, HD] weights for q and for k, read if NORM is 1
// qkv, dqkv   [tokens, heads + 2 kv_heads, HD] f32: queries, keys, values
// dq, dk, dv  [tokens, heads or kv_heads, HD] f32
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
@group(0) @binding(5) var<storage, read_write> dq: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<vec4<f32>>;

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
    let at = n * (HD / 4u);
    let is_key = head >= p.heads;
    let is_value = head >= p.heads + p.kv_heads;
    var dx: vec4<f32>;
    var dy: vec4<f32>;
    if (is_value) {
        let first = (token * p.kv_heads + head - p.heads - p.kv_heads) * (HD / 4u);
        dx = dv[first + place.x];
        dy = dv[first + place.y];
    } else if (is_key) {
        let first = (token * p.kv_heads + head - p.heads) * (HD / 4u);
        dx = dk[first + place.x];
        dy = dk[first + place.y];
    } else {
        let first = (token * p.heads + head) * (HD / 4u);
        dx = dq[first + place.x];
        dy = dq[first + place.y];
    }
    if (!is_value) {
        let u = unpaired(turned(paired(dx, dy), lane, position_of(token), -1.0));
        dx = u.a;
        dy = u.b;
    }
    if (NORM == 1u) {
        let x = qkv[at + place.x];
        let y = qkv[at + place.y];
        let w = select(0u, HD / 4u, is_key);
        let u = dx * norms[w + place.x];
        let v = dy * norms[w + place.y];
        let both = head_sum(vec2<f32>(dot(x, x) + dot(y, y), dot(u, x) + dot(v, y)), lid);
        if (!is_value) {
            let s = inverseSqrt(both.x / f32(HD) + p.eps);
            let mean = both.y / f32(HD) * s * s;
            dx = s * (u - x * mean);
            dy = s * (v - y * mean);
        }
    }
    if (there) {
        dqkv[at + place.x] = dx;
        dqkv[at + place.y] = dy;
    }
}
