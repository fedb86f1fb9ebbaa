// Matrix times matrix (prefill) with cooperative matrices:
//   y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r]),  x and w rounded to f16, sums in f32
//
// Bindings as in tiled.wgsl.
//
// One workgroup of four subgroups computes a tile of BM tokens x BN rows; each subgroup a quarter, as
// MT x NT matrices of T x T kept in registers, each a variable of its own (see compose.rs). It walks the columns BK = 32 at a time: everybody loads,
// dequantises and stores a tile of x and of w, a barrier, everybody multiplies, a barrier. Rows of a
// tile are 8 values longer than they need be, so that neighbours fall into different banks: worth more
// than half of the speed. Nothing is prefetched: registers are what limits this kernel.
//
// Whole tiles are stored straight from the matrices. Tiles that reach over an edge, and those with a
// bias, go through workgroup memory, one matrix of each subgroup at a time.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const BK: u32 = 32u;
const STRIDE: u32 = 40u;
const WG: u32 = 4u * SG;

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16
    y_stride: u32,
    flags: u32,
    extent: u32,    // tokens
    column: u32,    // of y, where row 0 goes
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

var<workgroup> stage: array<f32, 4u * T * T>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let token0 = wid.x * BM;
    let first = wid.y * BN;
    let quads = p.units * 4u;
    let m0 = (sid % 2u) * (BM / 2u);
    let n0 = (sid / 2u) * (BN / 2u);
    //@ for i in MT
    //@ for j in NT
    var acc$i_$j = MatC();
    //@ end
    //@ end
    for (var u = 0u; u < p.units; u += 2u) {
        // All loads first, so that they are in flight together. Rows and tokens past the end repeat the
        // last one and are dropped at the end; columns past the end are made zero in x.
        //@ for n in WL
        let w_row$n = (lid + $nu * WG) / 2u;
        let w_unit$n = min(u + (lid & 1u), p.units - 1u);
        let w$n = dequant16(p.planes, min(first + w_row$n, p.rows - 1u) * p.units + w_unit$n);
        //@ end
        //@ for n in XL
        let x_row$n = (lid + $nu * WG) / 8u;
        let x_quad$n = u * 4u + lid % 8u;
        let x$n = x[min(token0 + x_row$n, p.extent - 1u) * quads + min(x_quad$n, quads - 1u)];
        //@ end
        //@ for n in WL
        let w_at$n = w_row$n * STRIDE + (lid & 1u) * 16u;
        put_w(w_at$n, w$n[0]);
        put_w(w_at$n + 4u, w$n[1]);
        put_w(w_at$n + 8u, w$n[2]);
        put_w(w_at$n + 12u, w$n[3]);
        //@ end
        //@ for n in XL
        put_x(x_row$n * STRIDE + (lid % 8u) * 4u, select(vec4<f32>(), x$n, x_quad$n < quads));
        //@ end
        workgroupBarrier();
        for (var k = 0u; k < BK; k += T) {
            //@ for i in MT
            let a$i = coopLoadT<MatA>(&xs[((m0 + $iu * T) * STRIDE + k) / PER], STRIDE / PER);
            //@ end
            //@ for j in NT
            let b$j = coopLoad<MatB>(&ws[((n0 + $ju * T) * STRIDE + k) / PER], STRIDE / PER);
            //@ for i in MT
            acc$i_$j = coopMultiplyAdd(a$i, b$j, acc$i_$j);
            //@ end
            //@ end
        }
        workgroupBarrier();
    }

    // `&`, not `&&`: naga makes a branch of `&&`, and what comes out of it is not uniform to its eyes.
    // Matrices are stored at multiples of 16 bytes only.
    let aligned = ((p.y_stride | p.column | p.row0) & 3u) == 0u;
    let whole = (token0 + BM <= p.extent) & (first + BN <= p.rows) & ((p.flags & HAS_BIAS) == 0u) & aligned;
    let adding = (p.flags & ADD) != 0u;
    let y_stride = p.y_stride;
    //@ for i in MT
    //@ for j in NT
    {
        let token = token0 + m0 + $iu * T;
        let row = first + n0 + $ju * T;
        if (whole) {
            let at = token * y_stride + p.column + p.row0 + row;
            var sum = acc$i_$j;
            if (adding) {
                sum = sum + coopLoadT<MatC>(&y[at], y_stride);
            }
            coopStoreT(sum, &y[at], y_stride);
        } else {
            let at = sid * T * T;
            let sum = acc$i_$j;
            coopStoreT(sum, &stage[at], T);
            workgroupBarrier();
            store_edge(at, token, row, lane);
            workgroupBarrier();
        }
    }
    //@ end
    //@ end
}

// One staged matrix into y, with the bias, as far as it lies inside.
fn store_edge(at: u32, token: u32, row: u32, lane: u32) {
    for (var e = lane; e < T * T; e += SG) {
        let t = token + e / T;
        let r = row + e % T;
        if (t < p.extent && r < p.rows) {
            var v = stage[at + e];
            if ((p.flags & HAS_BIAS) != 0u) {
                v += bias[p.row0 + r];
            }
            let to = t * p.y_stride + p.column + p.row0 + r;
            if ((p.flags & ADD) != 0u) {
                v += y[to];
            }
            y[to] = v;
        }
    }
}
