// Matrix times a few vectors (decode) in integers:
//   y[t, r] = sum_u d_x (scale sum_i q_i X_i + offset sum_i X_i)  (+ bias[r]) (+ y[t, r])
// over units u of 16 columns, with weights scale * q + offset (q of 8 bits) and activations d_x X
// (X of 16 bits, as two planes of bytes: X = 256 high + low), multiplied four at a time by
// dot4I8Packed. The sums are exact; only the rounding of x to 16 bits is lost.
//
// w     one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// xq    [TOKENS, cols / 16] (high, low), each four groups of signed bytes in group order
// xm    [TOKENS, cols / 16] (d_x, d_x sum of X)
// bias  [all rows] f32, read if p.flags has HAS_BIAS
// y     [TOKENS, y_stride] f32, from column p.column on; added to if p.flags has ADD
//
// One workgroup computes WG / LANES * ROWS rows for all tokens: LANES invocations walk a row together,
// two units at a time, because most types store 32 weights in the 16 bytes of one load.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16, even
    y_stride: u32,
    flags: u32,
    extent: u32,    // workgroups along x, where the grid is folded
    column: u32,    // of y, where row 0 goes
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> xq: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> xm: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let first = ((wid.x + wid.y * p.extent) * GROUPS + lid / LANES) * ROWS;
    var acc: array<f32, ROWS * TOKENS>;
    for (var i = 0u; i < ROWS * TOKENS; i++) {
        acc[i] = 0.0;
    }
    if (first < p.rows) {
        for (var pair = lane; pair < p.units / 2u; pair += LANES) {
            for (var r = 0u; r < ROWS; r++) {
                // Rows past the end are computed again from the last one and dropped below.
                let u = min(first + r, p.rows - 1u) * (p.units / 2u) + pair;
                let a = ints16(p.planes, 2u * u);
                let b = ints16(p.planes, 2u * u + 1u);
                for (var t = 0u; t < TOKENS; t++) {
                    let at = t * p.units + 2u * pair;
                    let ma = xm[at];
                    let mb = xm[at + 1u];
                    let sa = (dot16(a.q, xq[2u * at]) << 8u) + dot16(a.q, xq[2u * at + 1u]);
                    let sb = (dot16(b.q, xq[2u * at + 2u]) << 8u) + dot16(b.q, xq[2u * at + 3u]);
                    acc[r * TOKENS + t] += a.scale * ma.x * f32(sa) + a.offset * ma.y
                        + b.scale * mb.x * f32(sb) + b.offset * mb.y;
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
