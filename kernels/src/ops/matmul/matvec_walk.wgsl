// The sums of an invocation of the integer matvec, into part: LANES invocations walk a row together, a head of
// their type (32 or 64 columns) at a time, STEPS times before the first product so that loads overlap, each for
// ROWS rows so that x is read once for all of them.
//
// lanes   number of the row of lanes
// planes  of the rows' type
// first   row that is the first of these planes

fn dot16(a: vec4<u32>, b: vec4<u32>) -> f32 {
    return f32(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}

fn walk(lid: u32, lanes: u32, planes: vec4<u32>, first: u32) {
    let width = p.units / PARTS;    // heads of a row
    //@ for e in BLOCKS
    // Of a block of 256, an invocation always has the same part: what depends on it alone leaves the loop.
    let place = lid % PER_BLOCK;
    //@ end
    //@ for r in ROWS
    // Rows past the end are the last one again, and dropped below.
    //@ for e in BLOCKS
    let row$r = (min(row_of(lanes, $ru), p.rows - 1u) - first) * (width / PER_BLOCK);
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
        //@ for e in BLOCKS
        let block$k = min((v + $ku * LANES) / PER_BLOCK, width / PER_BLOCK - 1u);
        //@ end
        //@ for e in ONES
        let v$k = min(v + $ku * LANES, width - 1u);
        //@ end
        let inside$k = v + $ku * LANES < width;
        //@ for r in ROWS
        //@ for e in BLOCKS
        let at$k_$r = (row$r + block$k) * PER_BLOCK + place;
        //@ end
        //@ for e in ONES
        let at$k_$r = row$r + v$k;
        //@ end
        let h$k_$r = head_of(planes, at$k_$r);
        //@ for j in PAIRS_OF_PARTS
        let a$k_$r_$j = ints_of(planes, h$k_$r, at$k_$r, 2u * $ju);
        let b$k_$r_$j = ints_of(planes, h$k_$r, at$k_$r, 2u * $ju + 1u);
        //@ end
        //@ end
        //@ end
        //@ for k in STEPS
        //@ for t in TOKENS
        //@ for j in PAIRS_OF_PARTS
        {
            //@ for e in BLOCKS
            let at = $tu * (p.units / 2u) + block$k * 8u + place + $ju * PER_BLOCK;
            //@ end
            //@ for e in ONES
            let at = $tu * width + v$k;
            //@ end
            let xa = xq[2u * at];
            let xb = xq[2u * at + 1u];
            let m = select(vec4<f32>(), xm[at], inside$k);
            //@ for r in ROWS
            //@ for e in SHARED
            acc$r_$t += a$k_$r_$j.scale * (m.x * dot16(a$k_$r_$j.q, xa) + m.z * dot16(b$k_$r_$j.q, xb));
            //@ end
            //@ for e in APART
            acc$r_$t += a$k_$r_$j.scale * (m.x * dot16(a$k_$r_$j.q, xa))
                + b$k_$r_$j.scale * (m.z * dot16(b$k_$r_$j.q, xb));
            //@ end
            //@ for e in CENTER_SHARED
            acc$r_$t += a$k_$r_$j.scale * (m.x * dot16(a$k_$r_$j.q, xa) + m.z * dot16(b$k_$r_$j.q, xb)
                + center_of(h$k_$r, 2u * $ju) * (m.y + m.w));
            //@ end
            //@ for e in CENTER_APART
            acc$r_$t += a$k_$r_$j.scale * (m.x * dot16(a$k_$r_$j.q, xa) + center_of(h$k_$r, 2u * $ju) * m.y)
                + b$k_$r_$j.scale * (m.z * dot16(b$k_$r_$j.q, xb) + center_of(h$k_$r, 2u * $ju + 1u) * m.w);
            //@ end
            //@ for e in OFFSET_SHARED
            acc$r_$t += a$k_$r_$j.offset * (m.y + m.w);
            //@ end
            //@ for e in OFFSET_APART
            acc$r_$t += a$k_$r_$j.offset * m.y + b$k_$r_$j.offset * m.w;
            //@ end
            //@ end
        }
        //@ end
        //@ end
        //@ end
    }
    //@ for r in ROWS
    //@ for t in TOKENS
    part[($ru * TOKENS + $tu) * WG + lid] = acc$r_$t;
    //@ end
    //@ end
}
