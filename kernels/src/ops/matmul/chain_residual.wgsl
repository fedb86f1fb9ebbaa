// The end of a product that is added to the residual stream: h += sums, and of h what the next product
// needs, whose input is RMSNorm(h) with weights w:
//   h w as 8-bit integers, and for each 16 the sum of (2^-20 h)^2
//
// norm  [rows] w
// y     [tokens, rows] h, f32
// outq  [tokens, rows / 16] integers, and outm (scale, scale times sum), see quantize/kernel.wgsl
// outm  then [tokens, rows / 16] sums of squares
//
// A workgroup computes whole units of 16 rows, and has an invocation for each row of each token; rows is a multiple
// of 64.

const OUT: u32 = GROUPS * ROWS;

@group(0) @binding(3) var<storage, read> norm: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> outq: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> outm: array<f32>;

var<workgroup> values: array<vec4<f32>, TOKENS * OUT / 4u>;
var<workgroup> squares: array<f32, TOKENS * OUT>;

fn row_of(group: u32, r: u32) -> u32 {
    return group * ROWS + r;
}

// What is added to and multiplied with.
var<private> before: f32;
var<private> w: f32;

fn fetch(workgroup: u32, lid: u32) {
    let row = workgroup * OUT + lid % OUT;
    if (lid < TOKENS * OUT && row < p.rows) {
        before = y[(token0 + lid / OUT) * p.rows + row];
        w = norm[row];
    }
}

fn store_rows(workgroup: u32, lid: u32) {
    let row = workgroup * OUT + lid % OUT;
    let t = lid / OUT;
    sum_lanes(lid);
    if (t < TOKENS && row < p.rows) {
        let lane0 = lid % OUT / ROWS * LANES;
        let h = before + sum_of(lid % ROWS * TOKENS + t, lane0) * input_scale(t, lane0);
        y[(token0 + t) * p.rows + row] = h;
        values[lid / 4u][lid % 4u] = h * w;
        let down = h * 9.5367431640625e-7;
        squares[lid] = down * down;
    }
    workgroupBarrier();
    let unit = workgroup * (OUT / 16u) + lid % (OUT / 16u);
    let token = lid / (OUT / 16u);
    if (token < TOKENS && unit < p.rows / 16u) {
        let u = unit16(values[4u * lid], values[4u * lid + 1u], values[4u * lid + 2u], values[4u * lid + 3u]);
        let at = (token0 + token) * (p.rows / 16u) + unit;
        outq[at] = u.q;
        outm[2u * at] = u.scale;
        outm[2u * at + 1u] = u.sum;
        var sum = 0.0;
        for (var i = 0u; i < 16u; i++) {
            sum += squares[16u * lid + i];
        }
        outm[ALL * (p.rows / 8u) + at] = sum;
    }
}
