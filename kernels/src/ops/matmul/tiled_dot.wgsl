// Matrix times matrix (prefill) in integers of 8 bits:
//   y[t, r] = sum_u d_x (scale sum_i q_i X_i + offset sum_i X_i)  (+ bias[r]) (+ y[t, r])
// over units u of 16 columns, with weights scale * q + offset and activations d_x X, multiplied four at
// a time by dot4I8Packed. The sums of a unit are exact; what is lost is the rounding of x to 8 bits.
//
// w     one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// xq    [tokens, cols / 16] X, four groups of signed bytes in group order
// y     [tokens, y_stride] f32, from column p.column on; added to if p.flags has ADD
// bias  [all rows] f32, read if p.flags has HAS_BIAS
// xm    [tokens, cols / 16] (d_x, d_x sum of X), d_x the same for both units of 32 columns
//
// One workgroup of WG computes a tile of BM tokens x BN rows, TM x TN an invocation, and walks the
// columns BK at a time. Where a type has one scale and offset for 32 columns (SPAN), the two units of
// such a pair are summed as integers.

const UNITS: u32 = BK / 16u;        // along the columns of a tile
const TX: u32 = BN / TN;            // invocations along the rows of w
const TY: u32 = BM / TM;

@group(0) @binding(3) var<storage, read_write> xq: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> xm: array<vec2<f32>>;

var<workgroup> xs: array<vec4<u32>, BM * UNITS>;
var<workgroup> ws: array<vec4<u32>, BN * UNITS>;
// Scales and offsets of w, scales and scaled sums of x; of a pair's first unit where SPAN is 32.
var<workgroup> wm: array<vec2<f32>, BN * UNITS>;
var<workgroup> xd: array<vec2<f32>, BM * UNITS>;

// Neighbouring rows fall into different banks.
fn place(row: u32, unit: u32) -> u32 {
    return row * UNITS + (unit ^ ((row * UNITS / 8u) % UNITS));
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

// Sums are below 2^22, so this is their value, without the conversion that GPUs are slow at.
fn small(i: i32) -> f32 {
    return bitcast<f32>(i + 0x4b400000) - 12582912.0;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let token0 = wid.x * BM;
    let first = wid.y * BN;
    let tx = lid % TX;
    let ty = lid / TX;
    // acci_j holds token ty + i TY against row tx + j TX.
    //@ for i in TM
    //@ for j in TN
    var acc$i_$j = 0.0;
    //@ end
    //@ end
    for (var u = 0u; u < p.units; u += UNITS) {
        // Rows and tokens past the end repeat the last one and are dropped; columns past it are made
        // zero in x.
        for (var i = lid; i < BN * UNITS; i += WG) {
            let row = i / UNITS;
            let unit = min(u + i % UNITS, p.units - 1u);
            let w = ints16(p.planes, min(first + row, p.rows - 1u) * p.units + unit);
            ws[place(row, i % UNITS)] = w.q;
            wm[i % UNITS * BN + row] = vec2<f32>(w.scale, w.offset);
        }
        for (var i = lid; i < BM * UNITS; i += WG) {
            let row = i / UNITS;
            let unit = u + i % UNITS;
            let at = min(token0 + row, p.extent - 1u) * p.units + min(unit, p.units - 1u);
            xs[place(row, i % UNITS)] = xq[at];
            xd[i % UNITS * BM + row] = select(vec2<f32>(), xm[at], unit < p.units);
        }
        workgroupBarrier();
        for (var k = 0u; k < UNITS; k += 2u) {
            //@ for j in TN
            let b$j = ws[place(tx + $ju * TX, k)];
            let c$j = ws[place(tx + $ju * TX, k + 1u)];
            let m$j = wm[k * BN + tx + $ju * TX];
            //@ if !SPAN32
            let n$j = wm[(k + 1u) * BN + tx + $ju * TX];
            //@ end
            //@ end
            //@ for i in TM
            {
                let a = xs[place(ty + $iu * TY, k)];
                let e = xs[place(ty + $iu * TY, k + 1u)];
                let d = xd[k * BM + ty + $iu * TY];
                let f = xd[(k + 1u) * BM + ty + $iu * TY];
                //@ for j in TN
                //@ if SPAN32
                acc$i_$j += m$j.x * d.x * small(dot16(a, b$j) + dot16(e, c$j)) + m$j.y * (d.y + f.y);
                //@ else
                acc$i_$j += d.x * (m$j.x * small(dot16(a, b$j)) + n$j.x * small(dot16(e, c$j)))
                    + (m$j.y * d.y + n$j.y * f.y);
                //@ end
                //@ end
            }
            //@ end
        }
        workgroupBarrier();
    }
    //@ for i in TM
    //@ for j in TN
    store(token0 + ty + $iu * TY, first + tx + $ju * TX, acc$i_$j);
    //@ end
    //@ end
}
