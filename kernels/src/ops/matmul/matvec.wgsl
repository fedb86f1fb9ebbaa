// Matrix times a few vectors (decode):  y[t, r] = sum_c w[r, c] x[t, c] (+ bias[r]) (+ y[t, r])
//
// w     one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// x     [TOKENS, cols] f32
// bias  [all rows] f32, read if p.flags has HAS_BIAS
// y     [TOKENS, y_stride] f32, from column p.column on; added to if p.flags has ADD
//
// One workgroup computes WG / LANES * ROWS rows for all tokens: LANES invocations walk a row together,
// 16 columns at a time, each for ROWS rows so that x is read once for all of them.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,      // workgroups along x, where the grid is folded
    column: u32,    // of y, where row 0 goes
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let first = ((wid.x + wid.y * p.extent) * GROUPS + lid / LANES) * ROWS;
    var acc: array<f32, ROWS * TOKENS>;
    for (var i = 0u; i < ROWS * TOKENS; i++) {
        acc[i] = 0.0;
    }
    if (first < p.rows) {
        for (var u = lane; u < p.units; u += LANES) {
            var w: array<mat4x4<f32>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                // Rows past the end are computed again from the last one and dropped below.
                w[r] = dequant16(p.planes, min(first + r, p.rows - 1u) * p.units + u);
            }
            for (var t = 0u; t < TOKENS; t++) {
                let at = (t * p.units + u) * 4u;
                let x0 = x[at];
                let x1 = x[at + 1u];
                let x2 = x[at + 2u];
                let x3 = x[at + 3u];
                for (var r = 0u; r < ROWS; r++) {
                    acc[r * TOKENS + t] += dot(w[r][0], x0) + dot(w[r][1], x1)
                        + dot(w[r][2], x2) + dot(w[r][3], x3);
                }
            }
        }
    }
    for (var i = 0u; i < ROWS * TOKENS; i++) {
        part[i * WG + lid] = acc[i];
    }
    workgroupBarrier();
    store_rows(wid.x + wid.y * p.extent, lid);
}
