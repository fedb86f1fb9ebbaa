// Gradient of kernel.wgsl with respect to its input, with g = x[t, i], u = x[t, width + i]:
//   dx[t, i] = dy[t, i] u act'(g),   dx[t, width + i] = dy[t, i] act(g)
//
// In place: there is nothing that needs gate and up after their gradients, and what needs y, the product
// behind the unit, finds it where dy was.
//
// x   [tokens, 2 width] f32: gate, then up; then dx
// dy  [tokens, width] f32, then y
//
// One invocation computes the two values of one pair.

struct Params {
    tokens: u32,
    width: u32,
    grid_x: u32,
    scale: f32,  // 1, since what stays in f32 need not be brought into the range of f16
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> dy: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n < p.tokens * p.width) {
        let at = n / p.width * p.width + n;
        let gate = act_and_slope(x[at]);
        let u = x[at + p.width];
        let d = dy[n];
        x[at] = d * u * gate.y;
        x[at + p.width] = d * gate.x;
        dy[n] = gate.x * u;
    }
}
