// Gradient of kernel.wgsl with respect to x; the weights are frozen:
//   dx[r, i] = s (w[i] dy[r, i] - x[r, i] s^2 mean_j(w[j] dy[r, j] x[r, j])),  s = 1 / sqrt(mean(x^2) + eps)
//
// x, dy  [rows, cols] f32
// w      [cols] f32
// dx     [rows, cols] f32, added to if p.flags has ADD
//
// One workgroup serves one row.

const ADD: u32 = 2u;

struct Params {
    rows: u32,
    cols: u32,
    grid_x: u32,
    eps: f32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let base = r * p.cols;
    // Scaled by 2^-20, squares stay finite up to 1e25 and normal down to 1e-12.
    let down = 9.5367431640625e-7;
    var squares = 0.0;
    var along = 0.0;
    for (var i = lid; i < p.cols; i += WG) {
        let v = x[base + i] * down;
        squares = fma(v, v, squares);
        along = fma(w[i] * dy[base + i], v, along);
    }
    // x s is of about 1, so it comes first in the products.
    let scaled = inverseSqrt(wg_sum(squares, lid) / f32(p.cols) + p.eps * down * down);
    let mean = wg_sum(along, lid) / f32(p.cols) * scaled;
    let s = scaled * down;
    for (var i = lid; i < p.cols; i += WG) {
        var v = s * (w[i] * dy[base + i] - x[base + i] * s * mean);
        if ((p.flags & ADD) != 0u) {
            v += dx[base + i];
        }
        dx[base + i] = v;
    }
}
