//@ param NTH =
// The sums of an invocation of the integer matvec, handed in: LANES invocations walk a row together, a head of
// their type (32 or 64 columns) at a time, STEPS times before the first product so that loads overlap, each for
// ROWS rows so that x is read once for all of them.
//
// NTH     set of functions that read the rows' type: none for the first, _2 for the second of two
// lanes   number of the row of lanes
// planes  of the rows' type
// first   row that is the first of these planes

fn walk$NTH(lid: u32, lanes: u32, planes: vec4<u32>, first: u32) {
    let width = p.units / PARTS;    // heads of a row
    //@ if BLOCKS
    // An invocation always has the same part of a block of 256: what depends on it alone leaves the loop.
    let place = lid % PER_BLOCK;
    //@ end
    //@ for r in ROWS
    // Rows past the end are the last one again, and dropped below.
    //@ if BLOCKS
    let row$r = (min(row_of(lanes, $ru), p.rows - 1u) - first) * (width / PER_BLOCK);
    //@ else
    let row$r = (min(row_of(lanes, $ru), p.rows - 1u) - first) * width;
    //@ end
    //@ for t in TOKENS
    var acc$r_$t = 0.0;
    //@ end
    //@ end
    for (var v = lid % LANES; v < width; v += LANES * STEPS) {
        //@ for k in STEPS
        // Past the end, the last ones again, times zero.
        //@ if BLOCKS
        let block$k = min((v + $ku * LANES) / PER_BLOCK, width / PER_BLOCK - 1u);
        //@ else
        let v$k = min(v + $ku * LANES, width - 1u);
        //@ end
        let inside$k = v + $ku * LANES < width;
        //@ for r in ROWS
        //@ if BLOCKS
        let at$k_$r = (row$r + block$k) * PER_BLOCK + place;
        //@ else
        let at$k_$r = row$r + v$k;
        //@ end
        let h$k_$r = head_of$NTH(planes, at$k_$r);
        //@ for j in PAIRS_OF_PARTS
        let a$k_$r_$j = ints_of$NTH(planes, h$k_$r, at$k_$r, 2u * $ju);
        let b$k_$r_$j = ints_of$NTH(planes, h$k_$r, at$k_$r, 2u * $ju + 1u);
        let scale_a$k_$r_$j = select(0.0, a$k_$r_$j.scale, inside$k);
        //@ if OFFSET
        let offset_a$k_$r_$j = select(0.0, a$k_$r_$j.offset, inside$k);
        //@ end
        //@ if !SHARED
        let scale_b$k_$r_$j = select(0.0, b$k_$r_$j.scale, inside$k);
        //@ if OFFSET
        let offset_b$k_$r_$j = select(0.0, b$k_$r_$j.offset, inside$k);
        //@ end
        //@ end
        //@ end
        //@ end
        //@ end
        //@ for k in STEPS
        //@ for t in TOKENS
        //@ for j in PAIRS_OF_PARTS
        {
            //@ if BLOCKS
            let at = input_row(token0 + $tu) * (p.units / 2u) + block$k * 8u + place + $ju * PER_BLOCK;
            //@ else
            let at = input_row(token0 + $tu) * width + v$k;
            //@ end
            let x = xq[at];
            let m = xm[at];
            //@ for r in ROWS
            //@ if !CENTER
            //@ if SHARED
            acc$r_$t += scale_a$k_$r_$j * (m.x * dot16(a$k_$r_$j.q, x.a) + m.z * dot16(b$k_$r_$j.q, x.b));
            //@ else
            acc$r_$t += scale_a$k_$r_$j * (m.x * dot16(a$k_$r_$j.q, x.a))
                + scale_b$k_$r_$j * (m.z * dot16(b$k_$r_$j.q, x.b));
            //@ end
            //@ else
            //@ if SHARED
            acc$r_$t += scale_a$k_$r_$j * (m.x * dot16(a$k_$r_$j.q, x.a) + m.z * dot16(b$k_$r_$j.q, x.b)
                + center_of(h$k_$r, 2u * $ju) * (m.y + m.w));
            //@ else
            acc$r_$t += scale_a$k_$r_$j * (m.x * dot16(a$k_$r_$j.q, x.a) + center_of(h$k_$r, 2u * $ju) * m.y)
                + scale_b$k_$r_$j * (m.z * dot16(b$k_$r_$j.q, x.b) + center_of(h$k_$r, 2u * $ju + 1u) * m.w);
            //@ end
            //@ end
            //@ if OFFSET
            //@ if SHARED
            acc$r_$t += offset_a$k_$r_$j * (m.y + m.w);
            //@ else
            acc$r_$t += offset_a$k_$r_$j * m.y + offset_b$k_$r_$j * m.w;
            //@ end
            //@ end
            //@ end
        }
        //@ end
        //@ end
        //@ end
    }
    //@ for r in ROWS
    //@ for t in TOKENS
    put_sum($ru * TOKENS + $tu, lid, acc$r_$t);
    //@ end
    //@ end
}
