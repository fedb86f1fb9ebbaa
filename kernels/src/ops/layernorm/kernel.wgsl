// LayerNorm:  y[r, i] = (v[r, i] - mean_i v) w[i] / sqrt(mean_i((v - mean_i v)^2) + eps) + b[i]
// with v = x, or x + residual where RESIDUAL is 1.
// Ba, Kiros and Hinton 2016, arXiv:1607.06450.
//
// x         [rows, cols] f32
// residual  [rows, cols] f32, where there is one
// wb        [2, cols] f32: weights, then biases
// y         [rows, cols] f32 or f16
//
// One workgroup normalises one row. Deviations are taken from a mean that is known first, and what rounding left of
// their own mean is taken off them, so that rows far from 0 lose nothing.

struct Params {
    rows: u32,
    cols: u32,
    grid_x: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> wb: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
//@ if RESIDUAL
@group(0) @binding(4) var<storage, read_write> residual: array<f32>;
//@ end

// Scaled by 2^-20, squares stay finite up to 1e25 and normal down to 1e-12.
const DOWN: f32 = 9.5367431640625e-7;

fn value(i: u32) -> f32 {
    var v = x[i];
    //@ if RESIDUAL
    v += residual[i];
    //@ end
    return v * DOWN;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let base = r * p.cols;
    var sum = 0.0;
    for (var i = lid; i < p.cols; i += WG) {
        sum += value(base + i);
    }
    let mean = wg_sum(sum, lid) / f32(p.cols);
    var rest = 0.0;
    var squares = 0.0;
    for (var i = lid; i < p.cols; i += WG) {
        let d = value(base + i) - mean;
        rest += d;
        squares = fma(d, d, squares);
    }
    let shift = wg_sum(rest, lid) / f32(p.cols);
    let variance = max(wg_sum(squares, lid) / f32(p.cols) - shift * shift, 0.0);
    let scale = inverseSqrt(variance + p.eps * DOWN * DOWN);
    for (var i = lid; i < p.cols; i += WG) {
        y[place(r, i, p.cols)] = out(fma((value(base + i) - mean - shift) * scale, wb[i], wb[p.cols + i]));
    }
}
