// RMSNorm of a residual stream to which the parts of a product are added first:
//   x[r, i] += sum_z parts[z, r, i];   y[r, i] = x[r, i] * w[i] / sqrt(mean_i(x[r, i]^2) + eps)
//
// parts  [COUNT, rows, cols] f32
// x      [rows, cols] f32
// w      [cols] f32
// y      [rows, cols] f32 or f16, or in tiles of f16
//
// One workgroup does one row, of which each invocation keeps HELD times four values in registers. All loads come
// first, so that they are in flight together.

struct Params {
    rows: u32,
    cols: u32,
    grid_x: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<Out>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let fours = p.cols / 4u;
    let base = r * fours;
    //@ for h in HELD
    // Past the end, the last one again.
    let i$h = min(lid + $hu * WG, fours - 1u);
    //@ for z in COUNT
    let part$h_$z = parts[$zu * p.rows * fours + base + i$h];
    //@ end
    let x$h = x[base + i$h];
    let w$h = w[i$h];
    //@ end
    // Scaled by 2^-20, squares stay finite up to 1e25 and normal down to 1e-12.
    let down = 9.5367431640625e-7;
    var squares = 0.0;
    //@ for h in HELD
    var sum$h = vec4<f32>();
    //@ for z in COUNT
    sum$h += part$h_$z;
    //@ end
    sum$h += x$h;
    if (lid + $hu * WG < fours) {
        x[base + i$h] = sum$h;
        let v = sum$h * down;
        squares += dot(v, v);
    }
    //@ end
    let mean = wg_sum(squares, lid) / f32(p.cols);
    // x / sqrt(mean(x^2) + eps), with both sides scaled.
    let scale = down * inverseSqrt(mean + p.eps * down * down);
    //@ for h in HELD
    if (lid + $hu * WG < fours) {
        let v = sum$h * scale * w$h;
        y[place(r, 4u * i$h, p.cols) / 4u] = vec4<Out>(out(v.x), out(v.y), out(v.z), out(v.w));
    }
    //@ end
}
