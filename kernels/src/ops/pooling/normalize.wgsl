// L2 normalisation in place:  x[r, :] = x[r, :] / max(sqrt(sum_i x[r, i]^2), 1e-12)
//
// x  [rows, cols] f32
//
// One workgroup serves one row.

struct Params {
    rows: u32,
    cols: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let base = r * p.cols;
    // Relative to the largest value, squares neither overflow nor vanish.
    var most = 0.0;
    for (var i = lid; i < p.cols; i += WG) {
        most = max(most, abs(x[base + i]));
    }
    most = max(wg_max(most, lid), 1e-30);
    var squares = 0.0;
    for (var i = lid; i < p.cols; i += WG) {
        let v = x[base + i] / most;
        squares = fma(v, v, squares);
    }
    let length = max(most * sqrt(wg_sum(squares, lid)), 1e-12);
    for (var i = lid; i < p.cols; i += WG) {
        x[base + i] /= length;
    }
}
