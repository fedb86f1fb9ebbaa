// What the three kernels of adapters share. The matrix m is A [ranks, width] if BY_RANK is 1, and else
// B [width, ranks]; QUADS says that every size and offset is a multiple of 4.

const ADD: u32 = 2u;

struct Params {
    tokens: u32,
    ranks: u32,
    width: u32,
    narrow_stride: u32,  // values of a token
    narrow_column: u32,  // of rank 0
    wide_stride: u32,
    wide_column: u32,    // of column 0
    grid_x: u32,
    flags: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
