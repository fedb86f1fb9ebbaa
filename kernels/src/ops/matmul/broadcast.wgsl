// Matrix times matrix or a few vectors:  y[t, r] = sum_c x[t, c] w[r, c] (+ bias[r]) (+ y[t, r])
//
// w     one slab of a quantised [rows, cols] matrix (w4, w1), see params.wgsl
// x     [tokens, cols] f32
// y     [tokens, y_stride] f32, from column p.column on; added to if p.flags has ADD
// bias  [all rows] f32, read if p.flags has HAS_BIAS
//
// One workgroup of WG computes a tile of TM tokens x BN rows; an invocation has TN rows for itself and all TM
// tokens. It walks the columns 16 at a time: its own weights go to registers, and the 16 values of x of each token
// are loaded once a subgroup, PER by each of HELD invocations, and handed round. No workgroup memory and no barrier.

@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let token0 = wid.x * TM;
    let first = wid.y * BN + lid;
    // Rows and tokens past the end repeat the last one and are dropped.
    //@ for j in TN
    let row$j = min(first + $ju * WG, p.rows - 1u) * p.units;
    //@ end
    //@ for i in TM
    let x$i = min(token0 + $iu, p.extent - 1u) * p.units * 16u + lane % HELD * PER;
    //@ for j in TN
    var acc$i_$j = 0.0;
    //@ end
    //@ end
    //@ if HEADS
    // What both halves of 32 weights share is loaded once.
    for (var v = 0u; v < p.units; v += 2u) {
        //@ for j in TN
        let head$j = head_of(p.planes, (row$j + v) >> 1u);
        //@ end
        for (var part = 0u; part < 2u; part++) {
            let u = v + part;
    //@ else
    for (var u = 0u; u < p.units; u++) {
        {
    //@ end
        //@ for j in TN
        //@ if HEADS
        let w$j = dequant_ints(ints_of(p.planes, head$j, (row$j + v) >> 1u, part));
        //@ else
        let w$j = dequant16(p.planes, row$j + u);
        //@ end
        //@ end
        //@ for i in TM
        //@ for k in PER
        let x$i_$k = x[x$i + u * 16u + $ku];
        //@ end
        //@ for l in HELD
        //@ for k in PER
        {
            let v = subgroupBroadcast(x$i_$k, $lu);
            //@ for j in TN
            acc$i_$j = fma(v, w$j[($lu * PER + $ku) / 4u][($lu * PER + $ku) % 4u], acc$i_$j);
            //@ end
        }
        //@ end
        //@ end
        //@ end
        }
    }
    //@ for i in TM
    //@ for j in TN
    store(token0 + $iu, first + $ju * WG, acc$i_$j);
    //@ end
    //@ end
}
