// Matrix times matrix for a few rows of activations, with cooperative matrices whose left side comes in tiles:
//   y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r])
//
// w     one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// x     f16 in tiles, [tokens / T, cols / T, T, T], as direct.wgsl has it
// y     [tokens, y_stride] f32, from column p.column on
// bias  [all rows] f32, read if p.flags has HAS_BIAS
//
// Few rows make few tiles of the result, and a tile that one subgroup walks alone waits for memory, unpacks and
// multiplies in turn. So SK subgroups share a tile of BM tokens x BN outputs by its depth: each walks every SK-th step
// of BK values with weights in workgroup memory of its own, and in the end all of them add up their sums. Neighbours in
// depth lie next to each other, so that a workgroup reads SK times as much of a row in a run.
//
// What a step's weights are made of is loaded during the step before. Two loops that look like plain ones keep a driver
// from unrolling the walk: unrolled four times, it took 60 KB of code and a third more registers, and was slower. They
// are a loop whose end is tested in its middle, and one over the matrices of a step that is not unrolled here.
//
// Outputs and a part of the sum are multiples of the tile and of SK * BK. Tokens need not be: matrices past the last token
// are those of the last, and what they give is not stored.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const WG: u32 = SK * SG;

@group(0) @binding(3) var<storage, read_write> x: array<f16>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

const WI: u32 = BK / (16u * PER_ITEM);  // items of a row of a step's weights
const WS: u32 = BK + 8u;                // values of a row in workgroup memory
const AREA: u32 = BN * WS;              // values of a subgroup
var<workgroup> ws: array<H, SK * AREA / PER>;
var<workgroup> stage: array<f32, SK * T * T>;

// The item of w at (row, i) of the step at k.
fn item_at(first: u32, k: u32, row: u32, i: u32) -> u32 {
    return (first + row) * (p.units / PER_ITEM) + k / (16u * PER_ITEM) + i;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let token0 = wid.x * BM;
    let first = wid.y * BN;
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
    let u$n = item_at(first, k, wr + $nu * (SG / WI), wc);
    //@ if PAIRS
    var at$n = head_and_part(2u * u$n);
    var head$n = head_of(p.planes, at$n.x);
    //@ else
    var w$n_0 = dequant16h(p.planes, u$n);
    //@ end
    //@ end
    loop {
        //@ for n in WL
        let to$n = area + (wr + $nu * (SG / WI)) * WS + wc * (16u * PER_ITEM);
        //@ if PAIRS
        let w$n_0 = half16(ints_of(p.planes, head$n, at$n.x, at$n.y));
        let w$n_1 = half16(ints_of(p.planes, head$n, at$n.x, at$n.y + 1u));
        //@ end
        //@ for h in PER_ITEM
        put_w(to$n + $hu * 16u, w$n_$h[0]);
        put_w(to$n + $hu * 16u + 4u, w$n_$h[1]);
        put_w(to$n + $hu * 16u + 8u, w$n_$h[2]);
        put_w(to$n + $hu * 16u + 12u, w$n_$h[3]);
        //@ end
        //@ end
        workgroupBarrier();
        let next = min(k + BK * SK, depth - BK);
        //@ for n in WL
        let v$n = item_at(first, next, wr + $nu * (SG / WI), wc);
        //@ if PAIRS
        at$n = head_and_part(2u * v$n);
        head$n = head_of(p.planes, at$n.x);
        //@ else
        w$n_0 = dequant16h(p.planes, v$n);
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
        workgroupBarrier();
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
