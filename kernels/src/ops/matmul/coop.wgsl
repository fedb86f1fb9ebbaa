// Matrix times matrix with cooperative matrices, x and w rounded to f16 and sums in f32:
//   forward   y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r])
//   gradient  y[t, c] = (sum_r s x[t, r] w[r, c]) / s (+ y[t, c])
// where the gradient's x is what the forward's y was: a power of two, s, keeps it in the range of f16.
// An adapter's product can be added to the sum before it is stored, see coop_low.wgsl.
//
// w     one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// x     forward [tokens, cols]; gradient [tokens, y_stride], from column p.column on; f32 or f16
// y     forward [tokens, y_stride] f32, from column p.column on; gradient [tokens, cols] f32
// bias  [all rows] f32, read if p.flags has HAS_BIAS, bound by the forward kernel alone
//
// One workgroup of SM x SN subgroups computes a tile of BM tokens x BN; each subgroup its share, as
// MT x NT matrices of T x T kept in registers, each a variable of its own (see compose.rs). It walks
// the sum BK at a time: everybody loads, dequantises and stores a tile of x and of w, a barrier,
// everybody multiplies, a barrier. A PREFETCH kernel loads the next tile while it multiplies: that needs
// registers, which are what limits these kernels. Rows of a tile are 8 values longer than they need be,
// so that neighbours fall into different banks: worth more than half of the speed.
//
// Forward and gradient differ in how 16 weights of a row lie in the tile of w: along the sum, or across
// it. An ALIGNED kernel is for shapes whose outputs and sum are multiples of the tile, and for as many
// tokens as a tile has, at least; the clamping that it does without costs registers, too.
// Where tiles are few, z workgroups share the sum of one: the z-th part of y is z tensors further.
// Whole tiles are stored straight from the matrices. Tiles that reach over an edge, and those with
// a bias, go through workgroup memory, one matrix of each subgroup at a time.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const WG: u32 = SM * SN * SG;
const XS: u32 = BK + 8u;                // values of a row of the tile of x
const XI: u32 = BK / 8u;                // loads of a row of it

@group(0) @binding(3) var<storage, read_write> x: array<X4>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//@ if FORWARD
@group(0) @binding(5) var<storage, read> bias: array<f32>;

const WS: u32 = BK + 8u;                // values of a row of the tile of w
const WI: u32 = BK / (16u * PER_ITEM);  // items of a row of it
//@ else
const WS: u32 = BN + 8u;
const WI: u32 = BN / (16u * PER_ITEM);
//@ end

var<workgroup> xs: array<H, BM * XS / PER>;
var<workgroup> ws: array<H, WROWS * WS / PER>;
var<workgroup> stage: array<f32, SM * SN * T * T>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    // An exact tile at the end of the tokens moves back until it is whole, and adds only what is its own.
    let own = wid.x * BM;
    //@ if ALIGNED
    let token0 = min(own, p.extent - BM);
    //@ else
    let token0 = own;
    //@ end
    let wr = lid / WI;
    let wc = lid % WI;
    let xr = lid / XI;
    let xc = lid % XI * 8u;
    let first = wid.y * BN;
    let begin = wid.z * p.chunk;
    let m0 = (sid % SM) * (BM / SM);
    let n0 = (sid / SM) * (BN / SN);
    //@ if FORWARD
    let depth = min(begin + p.chunk, p.units * 16u);
    let width = p.rows;
    let y_stride = p.y_stride;
    let y_base = wid.z * p.extent * y_stride + p.column + p.row0;
    let unscale = 1.0;
    //@ else
    let depth = min(begin + p.chunk, p.rows);
    let width = p.units * 16u;
    let y_stride = width;
    let y_base = wid.z * p.extent * y_stride;
    let unscale = 1.0 / p.scale;
    //@ end
    //@ for i in MT
    //@ for j in NT
    var acc$i_$j = MatC();
    //@ end
    //@ end
    //@ if PREFETCH
    //@ for n in WL
    let u$n = w_item(first, begin, wr + $nu * (WG / WI), wc);
    //@ if !PAIRS
    var w$n_0 = dequant16h(p.planes, u$n);
    //@ else
    let up$n = dequant32h(p.planes, u$n);
    var w$n_0 = up$n.a;
    var w$n_1 = up$n.b;
    //@ end
    //@ end
    //@ for n in XL
    var x$n = load_x(token0 + xr + $nu * (WG / XI), begin + xc);
    //@ end
    //@ end
    for (var k = begin; k < depth; k += BK) {
        //@ if !PREFETCH
        // All loads first, so that they are in flight together.
        //@ for n in WL
        let u$n = w_item(first, k, wr + $nu * (WG / WI), wc);
        //@ if !PAIRS
        let w$n_0 = dequant16h(p.planes, u$n);
        //@ else
        let up$n = dequant32h(p.planes, u$n);
        let w$n_0 = up$n.a;
        let w$n_1 = up$n.b;
        //@ end
        //@ end
        //@ for n in XL
        let x$n = load_x(token0 + xr + $nu * (WG / XI), k + xc);
        //@ end
        //@ end
        //@ for n in WL
        let w_at$n = (wr + $nu * (WG / WI)) * WS + wc * (16u * PER_ITEM);
        //@ for h in PER_ITEM
        put_w(w_at$n + $hu * 16u, w$n_$h[0]);
        put_w(w_at$n + $hu * 16u + 4u, w$n_$h[1]);
        put_w(w_at$n + $hu * 16u + 8u, w$n_$h[2]);
        put_w(w_at$n + $hu * 16u + 12u, w$n_$h[3]);
        //@ end
        //@ end
        //@ for n in XL
        let x_at$n = (xr + $nu * (WG / XI)) * XS + xc;
        put_x(x_at$n, x$n[0]);
        put_x(x_at$n + 4u, x$n[1]);
        //@ end
        workgroupBarrier();
        //@ if PREFETCH
        let next = min(k + BK, depth - 1u) / BK * BK;
        //@ for n in WL
        let v$n = w_item(first, next, wr + $nu * (WG / WI), wc);
        //@ if !PAIRS
        w$n_0 = dequant16h(p.planes, v$n);
        //@ else
        let vp$n = dequant32h(p.planes, v$n);
        w$n_0 = vp$n.a;
        w$n_1 = vp$n.b;
        //@ end
        //@ end
        //@ for n in XL
        x$n = load_x(token0 + xr + $nu * (WG / XI), next + xc);
        //@ end
        //@ end
        for (var k0 = 0u; k0 < BK; k0 += KS * T) {
        //@ for s in KS
        {
            let kk = k0 + $su * T;
            //@ for i in MT
            let a$i = coopLoadT<MatA>(&xs[((m0 + $iu * T) * XS + kk) / PER], XS / PER);
            //@ end
            //@ for j in NT
            //@ if FORWARD
            let b$j = coopLoad<MatB>(&ws[((n0 + $ju * T) * WS + kk) / PER], WS / PER);
            //@ else
            let b$j = coopLoadT<MatB>(&ws[(kk * WS + n0 + $ju * T) / PER], WS / PER);
            //@ end
            //@ for i in MT
            acc$i_$j = coopMultiplyAdd(a$i, b$j, acc$i_$j);
            //@ end
            //@ end
        }
        //@ end
        }
        workgroupBarrier();
    }
    //@ if LOW
    // The adapter's ranks are further values of the sum.
    let low_column = low_column_of(first);
    for (var k = 0u; k < select(0u, p.ranks, wid.z == 0u); k += BK) {
        // Whole matrices of the ranks that are left.
        let some = min(BK, (p.ranks - k + T - 1u) / T * T);
        for (var i = lid; i < BM * some / 8u; i += WG) {
            let row = i / (some / 8u);
            let at = i % (some / 8u) * 8u;
            let t = low_t(min(token0 + row, p.extent - 1u), low_column, k + at);
            put_x(row * XS + at, t[0]);
            put_x(row * XS + at + 4u, t[1]);
        }
        //@ if FORWARD
        let across = some / 4u;
        let rows = BN;
        //@ else
        let across = BN / 4u;
        let rows = some;
        //@ end
        for (var i = lid; i < rows * across; i += WG) {
            let row = i / across;
            let at = i % across * 4u;
            put_w(row * WS + at, low_m(first, k, row, at));
        }
        workgroupBarrier();
        for (var kk = 0u; kk < some; kk += T) {
            //@ for i in MT
            let a$i = coopLoadT<MatA>(&xs[((m0 + $iu * T) * XS + kk) / PER], XS / PER);
            //@ end
            //@ for j in NT
            //@ if FORWARD
            let b$j = coopLoad<MatB>(&ws[((n0 + $ju * T) * WS + kk) / PER], WS / PER);
            //@ else
            let b$j = coopLoadT<MatB>(&ws[(kk * WS + n0 + $ju * T) / PER], WS / PER);
            //@ end
            //@ for i in MT
            acc$i_$j = coopMultiplyAdd(a$i, b$j, acc$i_$j);
            //@ end
            //@ end
        }
        workgroupBarrier();
    }
    //@ end

    // `&`, not `&&`: naga makes a branch of `&&`, and what comes out of it is not uniform to its eyes.
    // Matrices are stored at multiples of 16 bytes only.
    let aligned = ((y_stride | y_base) & 3u) == 0u;
    let adding = (p.flags & ADD) != 0u;
    let plain = ((p.flags & HAS_BIAS) == 0u) & aligned & (!adding | (token0 == own));
    let whole = plain & (token0 + BM <= p.extent) & (first + BN <= width);
    //@ for i in MT
    //@ for j in NT
    {
        let token = token0 + m0 + $iu * T;
        let column = first + n0 + $ju * T;
        if (whole) {
            let at = token * y_stride + y_base + column;
            var sum = acc$i_$j;
            //@ if !FORWARD
            sum = sum * unscale;
            //@ end
            if (adding) {
                sum = sum + coopLoadT<MatC>(&y[at], y_stride);
            }
            coopStoreT(sum, &y[at], y_stride);
        } else {
            let at = sid * T * T;
            let sum = acc$i_$j;
            coopStoreT(sum, &stage[at], T);
            workgroupBarrier();
            for (var e = lane; e < T * T; e += SG) {
                let t = token + e / T;
                let c = column + e % T;
                if (t >= own && t < p.extent && c < width) {
                    var v = stage[at + e] * unscale;
                    //@ if FORWARD
                    if ((p.flags & HAS_BIAS) != 0u) {
                        v += bias[p.row0 + c];
                    }
                    //@ end
                    let to = t * y_stride + y_base + c;
                    if (adding) {
                        v += y[to];
                    }
                    y[to] = v;
                }
            }
            workgroupBarrier();
        }
    }
    //@ end
    //@ end
}
