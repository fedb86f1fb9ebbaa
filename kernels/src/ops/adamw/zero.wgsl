// Clears memory:  x[i] = 0
//
// x  [n] vec4<f32>
//
// One invocation clears four values.

struct Params {
    n: u32,
    grid_x: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i < p.n) {
        x[i] = vec4<f32>();
    }
}
