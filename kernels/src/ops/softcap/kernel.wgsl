// Soft cap in place:  x[i] = cap tanh(x[i] / cap)
// Gemma Team 2024, arXiv:2408.00118. The tangent is activation/tanh.wgsl.
//
// x  [values] f32
//
// One invocation computes one value.

struct Params {
    values: u32,
    grid_x: u32,
    cap: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i < p.values) {
        x[i] = p.cap * act(x[i] / p.cap);
    }
}
