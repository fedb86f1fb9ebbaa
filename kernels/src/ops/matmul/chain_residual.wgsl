// The end of a product that is added to the residual stream: h += sums, and of h what the next product
// needs, whose input is RMSNorm(h) with weights w:
//   h w as 8-bit integers, and for each 16 the sum of (2^-20 h)^2
//
// norm  [rows] w
// y     [rows] h, f32
// outq  [rows / 16] integers, and outm (scale, scale times sum), see quantize/kernel.wgsl
// outm  then [rows / 16] sums of squares
//
// A workgroup computes whole units of 16 rows; rows is a multiple of 64.

const OUT: u32 = GROUPS * ROWS;

@group(0) @binding(3) var<storage, read> norm: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> outq: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> outm: array<f32>;

var<workgroup> values: array<vec4<f32>, OUT / 4u>;
var<workgroup> squares: array<f32, OUT>;

fn row_of(group: u32, r: u32) -> u32 {
    return group * ROWS + r;
}

// What is added to and multiplied with.
var<private> before: f32;
var<private> w: f32;

fn fetch(workgroup: u32, lid: u32) {
    let row = workgroup * OUT + lid;
    if (lid < OUT && row < p.rows) {
        before = y[row];
        w = norm[row];
    }
}

fn store_rows(workgroup: u32, lid: u32) {
    let row = workgroup * OUT + lid;
    sum_lanes(lid);
    if (lid < OUT && row < p.rows) {
        let lane0 = lid / ROWS * LANES;
        let h = before + part[(lid % ROWS) * WG + lane0] * input_scale(lane0);
        y[row] = h;
        values[lid / 4u][lid % 4u] = h * w;
        let down = h * 9.5367431640625e-7;
        squares[lid] = down * down;
    }
    workgroupBarrier();
    let unit = workgroup * (OUT / 16u) + lid;
    if (lid < OUT / 16u && unit < p.rows / 16u) {
        let u = unit16(values[4u * lid], values[4u * lid + 1u], values[4u * lid + 2u], values[4u * lid + 3u]);
        outq[unit] = u.q;
        outm[2u * unit] = u.scale;
        outm[2u * unit + 1u] = u.sum;
        var sum = 0.0;
        for (var i = 0u; i < 16u; i++) {
            sum += squares[16u * lid + i];
        }
        outm[p.rows / 8u + unit] = sum;
    }
}
