// What the cooperative kernels of adapters share; up to four adapters whose matrices have one input.

struct Params {
    columns: vec4<u32>,
    places: vec4<u32>,
    widths: vec4<u32>,
    tokens: u32,
    ranks: u32,
    narrow_stride: u32,
    narrow_column: u32,
    wide_stride: u32,
    chunk: u32,  // of the sum, in a part
    part: u32,   // values from one part of the result to the next
    flags: u32,
    by: f32,     // powers of two: what wide is multiplied by,
    times: f32,  // and the other side
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
