// Gradient of gather.wgsl, where no row comes twice:  x[rows[i], :] = y[i, :]  (+ x[rows[i], :])
//
// rows  [count] u32, from index0 on; ~0: none
// x     rows first .. first + there of [.., width] f32; those that no index names stay
// y     [count, width] f32
//
// One workgroup reads one row of y, if its place in x is bound.

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
    if (row < p.first || row - p.first >= p.there) {
        return;
    }
    let at = (row - p.first) * p.width;
    for (var c = lid; c < p.width; c += WG) {
        var v = y[i * p.width + c];
        if (p.add != 0u) {
            v += x[at + c];
        }
        x[at + c] = v;
    }
}
