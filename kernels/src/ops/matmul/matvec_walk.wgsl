// The sums of an invocation of the integer matvec, into part: LANES invocations walk a row together, 32
// columns at a time because that is what most types share a scale for, STEPS times before the first product
// so that loads overlap, each for ROWS rows so that x is read once for all of them.
//
// lanes   number of the row of lanes
// planes  of the rows' type
// first   row that is the first of these planes

fn dot16(a: vec4<u32>, b: vec4<u32>) -> f32 {
    return f32(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}

fn walk(lid: u32, lanes: u32, planes: vec4<u32>, first: u32) {
    let width = p.units / 2u;
    //@ for e in EIGHTS
    // Of a block of 256, an invocation always has the same part: what depends on it alone leaves the loop.
    let part8 = lid % 8u;
    //@ end
    //@ for r in ROWS
    // Rows past the end are the last one again, and dropped below.
    //@ for e in EIGHTS
    let row$r = (min(row_of(lanes, $ru), p.rows - 1u) - first) * (width / 8u);
    //@ end
    //@ for e in ONES
    let row$r = (min(row_of(lanes, $ru), p.rows - 1u) - first) * width;
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
        let h$k_$r = head32(planes, at$k_$r);
        let a$k_$r = ints_of(planes, h$k_$r, at$k_$r, 0u);
        let b$k_$r = ints_of(planes, h$k_$r, at$k_$r, 1u);
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
}
