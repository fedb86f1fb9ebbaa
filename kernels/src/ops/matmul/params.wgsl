// What the products of many tokens share: parameters, and one slab of a quantised [rows, cols] matrix, bound
// twice.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,    // tokens
    column: u32,    // of y, or of the gradient's dy, where row 0 is
    scale: f32,     // s of cooperative kernels
    //@ if COOPERATIVE
    chunk: u32,     // values of the sum that a workgroup takes
    ranks: u32,     // of an adapter
    t_stride: u32,
    t_column: u32,
    bounds: vec2<u32>,
    //@ end
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
