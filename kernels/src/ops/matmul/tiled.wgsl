// Matrix times matrix (prefill):  y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r])
//
// w     one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// x     [tokens, cols] f32
// bias  [all rows] f32, read if p.flags has HAS_BIAS
// y     [tokens, y_stride] f32, from column p.column on; added to if p.flags has ADD
//
// One workgroup of 256 computes a tile of 64 tokens x 64 rows, 4 x 4 an invocation. It walks the
// columns 32 at a time: half of the invocations dequantise the tile of w into workgroup memory while
// the others copy the tile of x. Both tiles are kept along the columns as vec4, with the vec4's place
// in its row exclusive-ored with the row's number so that neighbours fall into different banks.
// 16 KiB of workgroup memory: exactly what core WebGPU allows.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const TILE: u32 = 64u;
const QUADS: u32 = 8u;  // vec4 along the 32 columns of a tile

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,    // tokens
    column: u32,    // of y, where row 0 goes
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

var<workgroup> xs: array<vec4<f32>, 512>;
var<workgroup> ws: array<vec4<f32>, 512>;

fn place(row: u32, quad: u32) -> u32 {
    return row * QUADS + (quad ^ (row & 7u));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let token0 = wid.x * TILE;
    let first = wid.y * TILE;
    let tx = lid % 16u;
    let ty = lid / 16u;
    // acc[i] holds token ty + 16 i against rows tx, tx + 16, tx + 32, tx + 48.
    var acc = array<vec4<f32>, 4>(vec4<f32>(), vec4<f32>(), vec4<f32>(), vec4<f32>());
    let quads = p.units * 4u;
    for (var u = 0u; u < p.units; u += 2u) {
        if (lid < 128u) {
            let row = lid / 2u;
            let unit = u + (lid & 1u);
            var w = mat4x4<f32>();
            if (first + row < p.rows && unit < p.units) {
                w = dequant16(p.planes, (first + row) * p.units + unit);
            }
            let q = (lid & 1u) * 4u;
            ws[place(row, q)] = w[0];
            ws[place(row, q + 1u)] = w[1];
            ws[place(row, q + 2u)] = w[2];
            ws[place(row, q + 3u)] = w[3];
        } else {
            for (var i = lid - 128u; i < 512u; i += 128u) {
                let row = i / QUADS;
                let quad = u * 4u + i % QUADS;
                var v = vec4<f32>();
                if (token0 + row < p.extent && quad < quads) {
                    v = x[(token0 + row) * quads + quad];
                }
                xs[place(row, i % QUADS)] = v;
            }
        }
        workgroupBarrier();
        for (var q = 0u; q < QUADS; q++) {
            let w0 = ws[place(tx, q)];
            let w_1 = ws[place(tx + 16u, q)];
            let w2 = ws[place(tx + 32u, q)];
            let w3 = ws[place(tx + 48u, q)];
            for (var i = 0u; i < 4u; i++) {
                let v = xs[place(ty + 16u * i, q)];
                acc[i] += vec4<f32>(dot(v, w0), dot(v, w_1), dot(v, w2), dot(v, w3));
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let token = token0 + ty + 16u * i;
        for (var j = 0u; j < 4u; j++) {
            let row = first + tx + 16u * j;
            if (token < p.extent && row < p.rows) {
                var sum = acc[i][j];
                if ((p.flags & HAS_BIAS) != 0u) {
                    sum += bias[p.row0 + row];
                }
                let at = token * p.y_stride + p.column + p.row0 + row;
                if ((p.flags & ADD) != 0u) {
                    sum += y[at];
                }
                y[at] = sum;
            }
        }
    }
}
