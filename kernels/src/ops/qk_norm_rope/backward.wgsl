// Gradient of kernel.wgsl with respect to its input; the weights of the norms are frozen:
//   u = rope back(dy),  dx[i] = s (w[i] u[i] - x[i] s^2 mean(w u x)),  s = 1 / sqrt(mean(x^2) + eps)
// and dx = u where there is no norm. A value's gradient passes through.
//
// Which position a token has is the fragment's (packed.wgsl), which declares binding 1.
// table      [128 + blocks, pairs] of (cos, sin), see rope/kernel.wgsl
// norms      [2, HD] weights for q and for k, read if NORM is 1
// qkv, dqkv  [tokens, heads + 2 kv_heads, HD] f32: queries, keys, values
// dq         [tokens, heads, HD] f32
// dk, dv     [tokens, kv_heads, HD] f32
//
// One workgroup of 64 serves one head of one token.

const WG: u32 = 64u;

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
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> dq: array<f32>;
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = wid.x + wid.y * p.grid_x;
    let each = p.heads + 2u * p.kv_heads;
    if (n >= p.tokens * each) {
        return;
    }
    let token = n / each;
    let head = n % each;
    let at = n * HD;
    if (head >= p.heads + p.kv_heads) {
        let value = (token * p.kv_heads + head - p.heads - p.kv_heads) * HD;
        for (var i = lid; i < HD; i += WG) {
            dqkv[at + i] = dv[value + i];
        }
        return;
    }
    let is_key = head >= p.heads;
    for (var i = lid; i < HD; i += WG) {
        if (is_key) {
            x[i] = dk[(token * p.kv_heads + head - p.heads) * HD + i];
        } else {
            x[i] = dq[(token * p.heads + head) * HD + i];
        }
    }
    workgroupBarrier();
    let position = position_of(token);
    if (NORM == 0u) {
        for (var i = lid; i < HD; i += WG) {
            dqkv[at + i] = rotated(i, position, -1.0);
        }
        return;
    }
    var u: array<f32, (HD + WG - 1u) / WG>;
    var squares = 0.0;
    var along = 0.0;
    for (var i = lid; i < HD; i += WG) {
        u[i / WG] = rotated(i, position, -1.0) * norms[select(0u, HD, is_key) + i];
        squares += qkv[at + i] * qkv[at + i];
        along += u[i / WG] * qkv[at + i];
    }
    let s = inverseSqrt(wg_sum(squares, lid) / f32(HD) + p.eps);
    let mean = wg_sum(along, lid) / f32(HD);
    for (var i = lid; i < HD; i += WG) {
        dqkv[at + i] = s * (u[i / WG] - qkv[at + i] * s * s * mean);
    }
}
