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
// of BK values with weights in workgroup memory of its own, which a barrier of the subgroup orders, and in the end all
// of them add up their sums. Neighbours in depth lie next to each other, so that a workgroup reads SK times as much of
// a row in a run.
//
// What a step's weights are made of is loaded during the step before. Two loops that look like plain ones keep a driver
// from unrolling the walk: unrolled four times, it took 60 KB of code and a third more registers, and was slower. They
// are a loop whose end is tested in its middle, and one over the matrices of a step that is not unrolled here.
//
// With rows of two types (TWO) in one slab, those of the second follow those of the first, of which there are whole tiles,
// and tile_2 is what sliced_tile.wgsl is for them: two dispatches would wait for each other, and a second one that is
// small takes as long as one three times as large.
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
    let first = wid.y * BN;
    //@ if TWO
    if (first < p.split) {
        tile(p.planes, first, first, wid, lid, sid, lane);
    } else {
        tile_2(p.planes_2, first - p.split, first, wid, lid, sid, lane);
    }
    //@ else
    tile(p.planes, first, first, wid, lid, sid, lane);
    //@ end
}
