// Gradient of kernel.wgsl with respect to its input, with g = x[t, i], u = x[t, width + i], s = 1 / (1 + exp(-g)):
//   dx[t, i] = dy[t, i] u s (1 + g (1 - s)),   dx[t, width + i] = dy[t, i] g s
//
// In place: there is nothing that needs gate and up after their gradients, and what needs y, the product
// behind SwiGLU, finds it where dy was.
//
// x   [tokens, 2 width] f32: gate, then up; then dx
// dy  [tokens, width] f32, then y
//
// One invocation computes the two values of one pair.

struct Params {
    tokens: u32,
    width: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dy: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n < p.tokens * p.width) {
        let at = n / p.width * p.width + n;
        let g = x[at];
        // Beyond 80, exp overflows and s is 0 or 1 to all bits; e s is 1 - s without cancellation.
        let e = exp(clamp(-g, -80.0, 80.0));
        let s = 1.0 / (1.0 + e);
        let u = x[at + p.width];
        let d = dy[n];
        x[at] = d * u * s * fma(g, e * s, 1.0);
        x[at + p.width] = d * g * s;
        dy[n] = g * s * u;
    }
}
