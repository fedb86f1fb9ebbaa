// What the products without cooperative matrices share: parameters, and one slab of a quantised
// [rows, cols] matrix, bound twice.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,    // tokens
    column: u32,    // of y, or of the gradient's dy, where row 0 is
    scale: f32,     // of cooperative kernels
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w4: array<Words>;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
