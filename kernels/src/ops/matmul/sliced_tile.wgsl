//@ param NTH =
// A tile of sliced.wgsl: BM tokens from token0 on x BN outputs from `first` on.
//
// NTH     set of functions that read the rows' type: none for the first, _2 for the second of two
// planes  of the rows' type
// row0    the tile's first row of these planes

fn tile$NTH(planes: vec4<u32>, row0: u32, first: u32, wid: vec3<u32>, lid: u32, sid: u32, lane: u32) {
    let token0 = wid.x * BM;
    let wr = lane / WI;
    let wc = lane % WI;
    let area = sid * AREA;
    let begin = wid.z * p.chunk;
    let depth = min(begin + p.chunk, p.units * 16u);
    let x_tiles = p.units * 16u / T;
    let x_last = (p.extent - 1u) / T;
    //@ for i in MT
    let x_at$i = min(token0 / T + $iu, x_last) * x_tiles * (T * T);
    //@ for j in NT
    var acc$i_$j = MatC();
    //@ end
    //@ end
    var k = begin + sid * BK;
    //@ for n in WL
    let u$n = item_at(row0, k, wr + $nu * (SG / WI), wc);
    //@ if PAIRS
    var at$n = head_and_part(2u * u$n);
    var head$n = head_of$NTH(planes, at$n.x);
    //@ else
    var w$n_0 = dequant16h$NTH(planes, u$n);
    //@ end
    //@ end
    loop {
        //@ for n in WL
        let to$n = area + (wr + $nu * (SG / WI)) * WS + wc * (16u * PER_ITEM);
        //@ if PAIRS
        let w$n_0 = half16(ints_of$NTH(planes, head$n, at$n.x, at$n.y));
        let w$n_1 = half16(ints_of$NTH(planes, head$n, at$n.x, at$n.y + 1u));
        //@ end
        //@ for h in PER_ITEM
        put_w(to$n + $hu * 16u, w$n_$h[0]);
        put_w(to$n + $hu * 16u + 4u, w$n_$h[1]);
        put_w(to$n + $hu * 16u + 8u, w$n_$h[2]);
        put_w(to$n + $hu * 16u + 12u, w$n_$h[3]);
        //@ end
        //@ end
        subgroupBarrier();
        let next = min(k + BK * SK, depth - BK);
        //@ for n in WL
        let v$n = item_at(row0, next, wr + $nu * (SG / WI), wc);
        //@ if PAIRS
        at$n = head_and_part(2u * v$n);
        head$n = head_of$NTH(planes, at$n.x);
        //@ else
        w$n_0 = dequant16h$NTH(planes, v$n);
        //@ end
        //@ end
        for (var kk = 0u; kk < BK; kk += T) {
            //@ for i in MT
            let a$i = coopLoadT<MatA>(&x[x_at$i + (k + kk) * T], T);
            //@ end
            //@ for j in NT
            let b$j = coopLoad<MatB>(&ws[(area + kk + $ju * T * WS) / PER], WS / PER);
            //@ for i in MT
            acc$i_$j = coopMultiplyAdd(a$i, b$j, acc$i_$j);
            //@ end
            //@ end
        }
        subgroupBarrier();
        k += BK * SK;
        if (k >= depth + sid * BK) {
            break;
        }
    }

    // The subgroups' sums of a matrix at a time, which all invocations add up.
    let y_base = wid.z * p.extent * p.y_stride + p.column + p.row0;
    //@ for i in MT
    //@ for j in NT
    coopStoreT(acc$i_$j, &stage[sid * T * T], T);
    workgroupBarrier();
    for (var e = lid; e < T * T; e += WG) {
        let t = token0 + $iu * T + e / T;
        let c = first + $ju * T + e % T;
        if (t < p.extent) {
            var v = 0.0;
            //@ for s in SK
            v += stage[$su * (T * T) + e];
            //@ end
            if ((p.flags & HAS_BIAS) != 0u) {
                v += bias[p.row0 + c];
            }
            let to = t * p.y_stride + y_base + c;
            if ((p.flags & ADD) != 0u) {
                v += y[to];
            }
            y[to] = v;
        }
    }
    workgroupBarrier();
    //@ end
    //@ end
}
