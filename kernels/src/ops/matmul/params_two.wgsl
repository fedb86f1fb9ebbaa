// This stands in for params.wgsl where a slab has rows of two types, and binds the same.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,    // tokens
    column: u32,    // of y, where row 0 is
    chunk: u32,     // values of the sum that a workgroup takes
    planes_2: vec4<u32>,
    split: u32,     // rows of the first type
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
