// Matrix times matrix with cooperative matrices whose left side comes in tiles:
//   forward   y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r])
//   gradient  y[t, c] = (sum_r x[t, r] w[r, c]) / s (+ y[t, c]), where x is s times the gradient of y
//
// w     one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// x     f16 in tiles, [tokens / T, width / T, T, T]: a tile's values follow each other, so that a matrix is one
//       run of memory; forward width is cols, gradient y_stride, of which columns from p.column on are read
// y     forward [tokens, y_stride] f32, from column p.column on; gradient [tokens, cols] f32
// bias  [all rows] f32, read if p.flags has HAS_BIAS, bound by the forward kernel alone
//
// One workgroup of SM subgroups computes a tile of BM tokens x BN; each subgroup MT x NT matrices of T x T, kept
// in registers, each a variable of its own (see compose.rs). Subgroups stand along the tokens alone: all of them
// multiply with the same BN columns of w, so a weight is unpacked once for BM tokens. x does not go through
// workgroup memory: its matrices are loaded one step of the sum ahead, straight into registers. A PREFETCH kernel
// loads w a step ahead, too. What the weights are made of is kept from load to use, not the weights: it is a
// third of the registers, and unpacking does not hold up the loads of x.
//
// An adapter's product can join the sum, see coop_low.wgsl: its ranks are the sum's first values, whose left side goes
// through the tile of w, which nobody reads yet.
//
// Outputs and the sum are multiples of the tile. In a WHOLE kernel tokens are as well, and there is no bias: what
// edges need costs a fifth of the speed at some shapes. Elsewhere tokens need not be: matrices past the last token are those of
// the last, and what they give is not stored; rows of a matrix that lie past it touch no other row.
// Workgroups walk stripes of 8 column tiles, which share x while it is in the cache.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const WG: u32 = SM * SG;
const STRIPE: u32 = 8u;

@group(0) @binding(3) var<storage, read_write> x: array<f16>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//@ if FORWARD
@group(0) @binding(5) var<storage, read> bias: array<f32>;

const WS: u32 = BK + 8u;                // values of a row of the tile of w
const WI: u32 = BK / (16u * PER_ITEM);  // items of a row of it
//@ else
const WS: u32 = BN + 8u;
const WI: u32 = BN / (16u * PER_ITEM);
//@ end

//@ if LOW
const LS: u32 = T + 8u;         // values of a row of t in workgroup memory
//@ if FORWARD
const LMS: u32 = LS;            // and of one of m
const LT: u32 = BN * LMS;       // where t begins, behind m
//@ else
const LMS: u32 = WS;
const LT: u32 = T * LMS;
//@ end
//@ end
var<workgroup> ws: array<H, WROWS * WS / PER>;
//@ if !WHOLE
var<workgroup> stage: array<f32, SM * T * T>;
//@ end

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let number = wid.x + wid.y * groups.x;
    let stripe = number / (groups.x * STRIPE);
    let across = min(STRIPE, groups.y - stripe * STRIPE);
    let within = number % (groups.x * STRIPE);
    let token0 = within / across * BM;
    let first = (stripe * STRIPE + within % across) * BN;
    let wr = lid / WI;
    let wc = lid % WI;
    let begin = wid.z * p.chunk;
    let m0 = sid * (BM / SM);
    //@ if FORWARD
    let depth = min(begin + p.chunk, p.units * 16u);
    let y_stride = p.y_stride;
    let y_base = wid.z * p.extent * y_stride + p.column + p.row0;
    let unscale = 1.0;
    let x_tiles = p.units * 16u / T;
    let x_first = 0u;
    //@ else
    let depth = min(begin + p.chunk, p.rows);
    let y_stride = p.units * 16u;
    let y_base = wid.z * p.extent * y_stride;
    let unscale = 1.0 / p.scale;
    let x_tiles = p.y_stride / T;
    let x_first = (p.column + p.row0) / T;
    //@ end
    let x_last = (p.extent - 1u) / T;
    //@ for i in MT
    let x_at$i = (min((token0 + m0) / T + $iu, x_last) * x_tiles + x_first) * (T * T);
    //@ for s in KS
    var a$i_$s = coopLoadT<MatA>(&x[x_at$i + (begin / T + $su) * (T * T)], T);
    //@ end
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
    var at$n = head_and_part(2u * u$n);
    var head$n = head_of(p.planes, at$n.x);
    //@ end
    //@ end
    //@ end
    //@ if LOW
    let low_column = low_column_of(first);
    for (var k = 0u; k < select(0u, p.ranks, wid.z == 0u); k += T) {
        // All loads before the first store, so that a workgroup waits for memory once: for these and for what the loop
        // begins with.
        //@ for n in ML
        let low_e$n = min(lid + $nu * WG, T * BN / 4u - 1u);
        //@ if FORWARD
        let low_row$n = low_e$n / (T / 4u);
        let low_at$n = low_e$n % (T / 4u) * 4u;
        //@ else
        let low_row$n = low_e$n / (BN / 4u);
        let low_at$n = low_e$n % (BN / 4u) * 4u;
        //@ end
        let low_m$n = low_m(first, k, low_row$n, low_at$n);
        //@ end
        let t_row = min(lid, SM * T * T / 8u - 1u) / (T / 8u);
        let t_at = lid % (T / 8u) * 8u;
        let t_token = token0 + t_row / T * (BM / SM) + t_row % T;
        //@ for i in MT
        let low_t$i = low_t(min(t_token + $iu * T, p.extent - 1u), low_column, k + t_at);
        //@ end
        //@ for n in ML
        put_w(low_row$n * LMS + low_at$n, low_m$n);
        //@ end
        //@ for i in MT
        // One matrix of each subgroup's tokens at a time: there is room for no more.
        if (lid < SM * T * T / 8u) {
            put_w(LT + t_row * LS + t_at, low_t$i[0]);
            put_w(LT + t_row * LS + t_at + 4u, low_t$i[1]);
        }
        workgroupBarrier();
        {
            let t$i = coopLoadT<MatA>(&ws[(LT + sid * T * LS) / PER], LS / PER);
            //@ for j in NT
            //@ if FORWARD
            let m$i_$j = coopLoad<MatB>(&ws[$ju * T * LS / PER], LS / PER);
            //@ else
            let m$i_$j = coopLoadT<MatB>(&ws[$ju * T / PER], WS / PER);
            //@ end
            acc$i_$j = coopMultiplyAdd(t$i, m$i_$j, acc$i_$j);
            //@ end
        }
        workgroupBarrier();
        //@ end
    }
    //@ end
    for (var k = begin; k < depth; k += BK) {
        let next = min(k + BK, depth - BK);
        //@ if !PREFETCH
        //@ for n in WL
        let u$n = w_item(first, k, wr + $nu * (WG / WI), wc);
        //@ if !PAIRS
        let w$n_0 = dequant16h(p.planes, u$n);
        //@ else
        let at$n = head_and_part(2u * u$n);
        let head$n = head_of(p.planes, at$n.x);
        //@ end
        //@ end
        // Ahead of the barrier: 15 % faster than behind it on an H200.
        //@ for i in MT
        //@ for s in KS
        let n$i_$s = coopLoadT<MatA>(&x[x_at$i + (next / T + $su) * (T * T)], T);
        //@ end
        //@ end
        //@ end
        //@ if PAIRS
        //@ for n in WL
        let w$n_0 = half16(ints_of(p.planes, head$n, at$n.x, at$n.y));
        let w$n_1 = half16(ints_of(p.planes, head$n, at$n.x, at$n.y + 1u));
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
        workgroupBarrier();
        //@ if PREFETCH
        //@ for n in WL
        let v$n = w_item(first, next, wr + $nu * (WG / WI), wc);
        //@ if !PAIRS
        w$n_0 = dequant16h(p.planes, v$n);
        //@ else
        at$n = head_and_part(2u * v$n);
        head$n = head_of(p.planes, at$n.x);
        //@ end
        //@ end
        //@ for i in MT
        //@ for s in KS
        let n$i_$s = coopLoadT<MatA>(&x[x_at$i + (next / T + $su) * (T * T)], T);
        //@ end
        //@ end
        //@ end
        //@ for s in KS
        //@ for j in NT
        //@ if FORWARD
        let b$s_$j = coopLoad<MatB>(&ws[($ju * T * WS + $su * T) / PER], WS / PER);
        //@ else
        let b$s_$j = coopLoadT<MatB>(&ws[($su * T * WS + $ju * T) / PER], WS / PER);
        //@ end
        //@ for i in MT
        acc$i_$j = coopMultiplyAdd(a$i_$s, b$s_$j, acc$i_$j);
        //@ end
        //@ end
        //@ end
        //@ for i in MT
        //@ for s in KS
        a$i_$s = n$i_$s;
        //@ end
        //@ end
        workgroupBarrier();
    }

    let adding = (p.flags & ADD) != 0u;
    //@ if !WHOLE
    // `&`, not `&&`: naga makes a branch of `&&`, and what comes out of it is not uniform to its eyes.
    // Matrices are stored at multiples of 16 bytes only.
    let aligned = ((y_stride | y_base) & 3u) == 0u;
    let whole = ((p.flags & HAS_BIAS) == 0u) & aligned & (token0 + BM <= p.extent);
    //@ end
    //@ for i in MT
    //@ for j in NT
    {
        let token = token0 + m0 + $iu * T;
        let column = first + $ju * T;
        //@ if WHOLE
        {
        //@ else
        if (whole) {
        //@ end
            let at = token * y_stride + y_base + column;
            var sum = acc$i_$j;
            //@ if !FORWARD
            sum = sum * unscale;
            //@ end
            if (adding) {
                sum = sum + coopLoadT<MatC>(&y[at], y_stride);
            }
            coopStoreT(sum, &y[at], y_stride);
        }
        //@ if !WHOLE
        else {
            let at = sid * T * T;
            let sum = acc$i_$j;
            coopStoreT(sum, &stage[at], T);
            workgroupBarrier();
            for (var e = lane; e < T * T; e += SG) {
                let t = token + e / T;
                let c = column + e % T;
                if (t < p.extent) {
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
        //@ end
    }
    //@ end
    //@ end
}
