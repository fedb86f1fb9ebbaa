// Products of a few tokens by experts:  y[s, r] = sum_c w[ids[s], r, c] x[s / per, c]
//
// x  [choices / per, cols] f32
//
// The rest is in choice.wgsl. One workgroup computes WG / LANES * ROWS rows of one choice: LANES invocations walk a row
// together, 16 columns at a time, each for ROWS rows so that x is read once for all of them.

@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let begin = expert_row(wid.y, lid);
    if (begin >= p.slab_rows) {
        return;
    }
    let lanes = wid.x * GROUPS + lid / LANES;
    //@ for r in ROWS
    // Rows past the end are the last one again, and dropped below.
    let row$r = (begin + min(row_of(lanes, $ru), p.rows - 1u)) * p.units;
    var acc$r = 0.0;
    //@ end
    let x0 = input_row(0u) * p.units;
    for (var u = lid % LANES; u < p.units; u += LANES) {
        let at = (x0 + u) * 4u;
        let a = x[at];
        let b = x[at + 1u];
        let c = x[at + 2u];
        let d = x[at + 3u];
        //@ for r in ROWS
        let w$r = dequant16(p.planes, row$r + u);
        acc$r += dot(w$r[0], a) + dot(w$r[1], b) + dot(w$r[2], c) + dot(w$r[3], d);
        //@ end
    }
    //@ for r in ROWS
    put_sum($ru, lid, acc$r);
    //@ end
    store_rows(wid.x, lid);
}
