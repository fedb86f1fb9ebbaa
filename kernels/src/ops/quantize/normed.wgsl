// What a chain of products begins with: of h, the residual stream of a few tokens, what RMSNorm's consumer
// needs (matmul/chain_residual.wgsl writes the same behind a product):
//   h w as 8-bit integers, and for each 16 the sum of (2^-20 h)^2
//
// x   [tokens, units, 16] h, f32
// w   [units, 16] f32
// xq  [tokens, units] integers
// xm  [tokens, units] (scale, scale times sum), then [tokens, units] sums of squares
//
// One invocation quantises one unit.

struct Params {
    units: u32,
    grid_x: u32,
    tokens: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> xq: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> xm: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n >= p.tokens * p.units) {
        return;
    }
    let a = x[4u * n];
    let b = x[4u * n + 1u];
    let c = x[4u * n + 2u];
    let d = x[4u * n + 3u];
    let m = 4u * (n % p.units);
    let u = unit16(a * w[m], b * w[m + 1u], c * w[m + 2u], d * w[m + 3u]);
    xq[n] = u.q;
    xm[2u * n] = u.scale;
    xm[2u * n + 1u] = u.sum;
    let down = mat4x4<f32>(a, b, c, d) * 9.5367431640625e-7;
    xm[2u * p.tokens * p.units + n] =
        dot(down[0], down[0]) + dot(down[1], down[1]) + dot(down[2], down[2]) + dot(down[3], down[3]);
}
