// Rows to tiles:  y[r / T, c / T, r % T, c % T] = f16(s x[r, c]),  infinite where f16 does not hold it
//
// x  [rows, stride] f32 or f16 (HALF), of which cols columns from `column` on are read
// y  f16 in tiles of T x T, see Format::Tiles; rows past the last are not written
//
// One invocation moves four neighbouring values. cols, stride and column are multiples of 4.

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,
    column: u32,
    grid_x: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
//@ if HALF
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f16>>;
//@ else
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
//@ end
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f16>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    let fours = p.cols / 4u;
    let r = n / fours;
    let c = n % fours * 4u;
    if (r < p.rows) {
        let v = vec4<f32>(x[(r * p.stride + p.column + c) / 4u]) * p.scale;
        y[place(r, c, p.cols) / 4u] = vec4<f16>(v);
    }
}
