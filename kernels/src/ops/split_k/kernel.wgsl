// Sum of the parts of a product whose depth several workgroups shared:
//   y[t, column + c] = scale sum_z parts[z, t, c]  (+ y[t, column + c])
//
// parts  [count, rows, cols] vec4<f32>
// y      [rows, stride] vec4<f32>
//
// One invocation sums four values, in the order of the parts.

const ADD: u32 = 2u;

struct Params {
    rows: u32,
    cols: u32,    // vec4
    count: u32,
    stride: u32,  // vec4
    column: u32,  // vec4
    grid_x: u32,
    flags: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i >= p.rows * p.cols) {
        return;
    }
    var sum = vec4<f32>();
    for (var z = 0u; z < p.count; z++) {
        sum += parts[z * p.rows * p.cols + i];
    }
    sum *= p.scale;
    let at = i / p.cols * p.stride + p.column + i % p.cols;
    if ((p.flags & ADD) != 0u) {
        sum += y[at];
    }
    y[at] = sum;
}
