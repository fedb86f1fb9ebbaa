// Matrix times a few vectors (decode) in integers:
//   y[t, r] = sum_u d_x (scale sum_i q_i X_i + offset sum_i X_i)  (+ bias[r]) (+ y[t, r])
// over units u of 16 columns, with weights scale * q + offset and activations d_x X, q and X of 8 bits,
// multiplied four at a time by dot4I8Packed. The sums are exact; only the rounding of x to 8 bits is
// lost.
//
// w     one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// xq    [TOKENS, cols / 16] four groups of signed bytes in group order
// xm    [TOKENS, cols / 32] (d_x, d_x sum of X) of two units
//
// Where the sums go is in matvec_store.wgsl or in chain_*.wgsl.
//
// One workgroup computes WG / LANES * ROWS rows for all tokens: LANES invocations walk a row together,
// 32 columns at a time because that is what most types share a scale for, STEPS times before the first
// product so that loads overlap, each for ROWS rows so that x is read once for all of them.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16, even
    y_stride: u32,
    flags: u32,
    extent: u32,    // workgroups along x, where the grid is folded
    column: u32,    // of y, where row 0 goes
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(5) var<storage, read_write> xq: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> xm: array<vec4<f32>>;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> f32 {
    return f32(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    //@ for b in BOOKED
    load_book(lid);
    workgroupBarrier();
    //@ end
    let group = wid.x + wid.y * p.extent;
    let lanes = group * GROUPS + lid / LANES;
    let width = p.units / 2u;
    //@ for e in EIGHTS
    // Of a block of 256, an invocation always has the same part: what depends on it alone leaves the loop.
    let part8 = lid % 8u;
    //@ end
    //@ for r in ROWS
    // Rows past the end are the last one again, and dropped below.
    //@ for e in EIGHTS
    let row$r = min(row_of(lanes, $ru), p.rows - 1u) * (width / 8u);
    //@ end
    //@ for e in ONES
    let row$r = min(row_of(lanes, $ru), p.rows - 1u) * width;
    //@ end
    //@ for t in TOKENS
    var acc$r_$t = 0.0;
    //@ end
    //@ end
    for (var v = lid % LANES; v < width; v += LANES * STEPS) {
        //@ for k in STEPS
        // Past the end, the last ones again, times zero.
        //@ for e in EIGHTS
        let block$k = min((v + $ku * LANES) / 8u, width / 8u - 1u);
        let v$k = block$k * 8u + part8;
        //@ end
        //@ for e in ONES
        let v$k = min(v + $ku * LANES, width - 1u);
        //@ end
        let inside$k = v + $ku * LANES < width;
        //@ for r in ROWS
        //@ for e in EIGHTS
        let at$k_$r = (row$r + block$k) * 8u + part8;
        //@ end
        //@ for e in ONES
        let at$k_$r = row$r + v$k;
        //@ end
        let h$k_$r = head32(p.planes, at$k_$r);
        let a$k_$r = ints_of(p.planes, h$k_$r, at$k_$r, 0u);
        let b$k_$r = ints_of(p.planes, h$k_$r, at$k_$r, 1u);
        //@ end
        //@ end
        //@ for k in STEPS
        //@ for t in TOKENS
        {
            let at = $tu * width + v$k;
            let xa = xq[2u * at];
            let xb = xq[2u * at + 1u];
            let m = select(vec4<f32>(), xm[at], inside$k);
            //@ for r in ROWS
            acc$r_$t += a$k_$r.scale * (m.x * dot16(a$k_$r.q, xa)) + a$k_$r.offset * m.y
                + b$k_$r.scale * (m.z * dot16(b$k_$r.q, xb)) + b$k_$r.offset * m.w;
            //@ end
        }
        //@ end
        //@ end
    }
    //@ for r in ROWS
    //@ for t in TOKENS
    part[($ru * TOKENS + $tu) * WG + lid] = acc$r_$t;
    //@ end
    //@ end
    //@ for n in NORMED
    sum_squares(lid);
    //@ end
    store_rows(group, lid);
}
