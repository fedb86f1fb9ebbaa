// RMSNorm:  y[r, i] = x[r, i] * w[i] / sqrt(mean_i(x[r, i]^2) + eps)
// Zhang and Sennrich 2019, arXiv:1910.07467.
//
// x  [rows, cols] f32
// w  [cols] f32
// y  [rows, cols] f32, f16 or f16 in tiles
//
// y is added to where ADD is 1. One workgroup normalises one row. A row is a token for the layer norms and a head
// of a token for QK-norm.

struct Params {
    rows: u32,
    cols: u32,
    grid_x: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let base = r * p.cols;
    // Scaled by 2^-20, squares stay finite up to 1e25 and normal down to 1e-12.
    let down = 9.5367431640625e-7;
    var sum = 0.0;
    for (var i = lid; i < p.cols; i += WG) {
        let v = x[base + i] * down;
        sum = fma(v, v, sum);
    }
    let mean = wg_sum(sum, lid) / f32(p.cols);
    // x / sqrt(mean(x^2) + eps), with both sides scaled.
    let scale = down * inverseSqrt(mean + p.eps * down * down);
    for (var i = lid; i < p.cols; i += WG) {
        let v = x[base + i] * scale * w[i];
        //@ if ADD
        y[base + i] += v;
        //@ else
        y[place(r, i, p.cols)] = out(v);
        //@ end
    }
}
