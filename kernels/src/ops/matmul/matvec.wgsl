// Matrix times a few vectors (decode):  y[t, r] = sum_c w[r, c] x[t, c] (+ bias[r]) (+ y[t, r])
//
// w     one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// x     [TOKENS, cols] f32
//
// Where the sums go is in matvec_store.wgsl.
//
// One workgroup computes WG / LANES * ROWS rows for all tokens: LANES invocations walk a row together,
// 16 columns at a time, each for ROWS rows so that x is read once for all of them, STEPS times before
// the first product so that loads overlap.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,      // workgroups along x, where the grid is folded
    column: u32,    // of y, where row 0 goes
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * p.extent;
    let first = (group * GROUPS + lid / LANES) * ROWS;
    let last = p.units - 1u;
    //@ for r in ROWS
    // Rows past the end are the last one again, and dropped below.
    let row$r = min(first + $ru, p.rows - 1u) * p.units;
    //@ for t in TOKENS
    var acc$r_$t = 0.0;
    //@ end
    //@ end
    for (var u = lid % LANES; u < p.units; u += LANES * STEPS) {
        //@ for k in STEPS
        // Units past the end are the last one again, times zero.
        let u$k = min(u + $ku * LANES, last);
        let inside$k = u + $ku * LANES <= last;
        //@ for r in ROWS
        let w$k_$r = dequant16(p.planes, row$r + u$k);
        //@ end
        //@ end
        //@ for k in STEPS
        //@ for t in TOKENS
        {
            let at = ($tu * p.units + u$k) * 4u;
            let none = vec4<f32>();
            let x0 = select(none, x[at], inside$k);
            let x1 = select(none, x[at + 1u], inside$k);
            let x2 = select(none, x[at + 2u], inside$k);
            let x3 = select(none, x[at + 3u], inside$k);
            //@ for r in ROWS
            acc$r_$t += dot(w$k_$r[0], x0) + dot(w$k_$r[1], x1) + dot(w$k_$r[2], x2) + dot(w$k_$r[3], x3);
            //@ end
        }
        //@ end
        //@ end
    }
    //@ for r in ROWS
    //@ for t in TOKENS
    put_sum($ru * TOKENS + $tu, lid, acc$r_$t);
    //@ end
    //@ end
    store_rows(group, lid);
}
