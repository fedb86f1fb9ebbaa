// Rows of activations by index:  y[i, :] = x[rows[i], :],  0 where rows[i] is ~0
//
// rows  [count] u32, from index0 on
// x     rows first .. first + there of [.., width] f32
// y     [count, width] f32
//
// One workgroup writes one row of y, if its source is bound: the parts of a split x are dispatched one
// after the other, of which the first writes the zeros.

struct Params {
    count: u32,
    width: u32,
    first: u32,
    there: u32,
    index0: u32,
    grid_x: u32,
    add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = wid.x + wid.y * p.grid_x;
    if (i >= p.count) {
        return;
    }
    let row = rows[p.index0 + i];
    if (row == ~0u) {
        if (p.first == 0u) {
            for (var c = lid; c < p.width; c += WG) {
                y[i * p.width + c] = 0.0;
            }
        }
        return;
    }
    if (row < p.first || row - p.first >= p.there) {
        return;
    }
    let at = (row - p.first) * p.width;
    for (var c = lid; c < p.width; c += WG) {
        y[i * p.width + c] = x[at + c];
    }
}
