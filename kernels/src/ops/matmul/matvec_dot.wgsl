// Matrix times a few vectors (decode) in integers:
//   y[t, r] = sum_u d_x (scale sum_i q_i X_i + offset sum_i X_i)  (+ bias[r]) (+ y[t, r])
// over units u of 16 columns, with weights scale * q + offset and activations d_x X, q and X of 8 bits,
// multiplied four at a time by dot4I8Packed. The sums are exact; only the rounding of x to 8 bits is
// lost.
//
// w     one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// xq    [tokens, cols / 16] four groups of signed bytes in group order
// xm    [tokens, cols / 32] (d_x, d_x sum of X) of two units
//
// How a row is walked is in matvec_walk.wgsl, where the sums go in matvec_store.wgsl or in chain_*.wgsl.
// With rows of two types (MIXED) in one slab, those of the second follow those of the first, of which there are
// whole workgroups, and walk_2 is what matvec_walk.wgsl is for them.
//
// One workgroup computes WG / LANES * ROWS rows for TOKENS tokens. Where there are twice as many (HALVED), its neighbour has
// the others, and finds the weights in a cache.

struct Params {
    planes: vec4<u32>,
    row0: u32,      // first row of the slab
    rows: u32,      // rows in the slab
    units: u32,     // cols / 16, even
    y_stride: u32,
    flags: u32,
    extent: u32,    // workgroups along x, where the grid is folded
    column: u32,    // of y, where row 0 goes
    eps: f32,
    //@ if MIXED
    planes_2: vec4<u32>,
    split: u32,     // rows of the first type
    //@ end
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(5) var<storage, read_write> xq: array<Units>;
@group(0) @binding(6) var<storage, read_write> xm: array<vec4<f32>>;

// The first token of this workgroup, and how many there are in all.
//@ if HALVED
var<private> token0: u32;
const ALL: u32 = 2u * TOKENS;
//@ else
const token0: u32 = 0u;
const ALL: u32 = TOKENS;
//@ end

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    //@ if !SHUFFLED
    @builtin(local_invocation_index) lid: u32,
    //@ else
    @builtin(subgroup_id) sid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    //@ end
) {
    //@ if SHUFFLED
    // Lanes that add up by shuffles are neighbours in a subgroup, whatever the device's order is.
    let lid = sid * SG + lane;
    //@ end
    //@ if BOOKED
    load_book(lid);
    workgroupBarrier();
    //@ end
    //@ if HALVED
    let n = wid.x + wid.y * p.extent;
    let group = n / 2u;
    token0 = n % 2u * TOKENS;
    //@ else
    let group = wid.x + wid.y * p.extent;
    //@ end
    let lanes = group * GROUPS + lid / LANES;
    // What the end needs is on its way before the long loads; nothing here waits for it.
    fetch(group, lid);
    //@ if !MIXED
    walk(lid, lanes, p.planes, 0u);
    //@ else
    if (group * GROUPS * ROWS < p.split) {
        walk(lid, lanes, p.planes, 0u);
    } else {
        walk_2(lid, lanes, p.planes_2, p.split);
    }
    //@ end
    //@ if NORMED
    //@ if SHUFFLED
    sum_squares(sid, lane);
    //@ else
    sum_squares(lid);
    //@ end
    //@ end
    store_rows(group, lid);
}
