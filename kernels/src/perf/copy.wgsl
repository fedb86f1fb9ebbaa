// Copy:  y[i] = x[i]
//
// x, y  [4 n] u32
//
// One workgroup copies EACH * WG vectors, EACH to an invocation: the most that memory gives, to
// measure the other kernels by.

struct Params {
    n: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let first = (wid.x + wid.y * p.grid_x) * WG * EACH + lid;
    for (var k = 0u; k < EACH; k++) {
        let i = first + k * WG;
        if (i < p.n) {
            y[i] = x[i];
        }
    }
}
