// What the products of a few tokens by experts share: parameters, the choice of a workgroup, where its expert's rows
// lie in the slab, and where the sums go.
//
// w    one slab of quantised matrices [experts, rows, cols] (w4, w1)
// ids  [choices] u32: the expert of each choice
// y    [choices, rows] f32

struct Params {
    planes: vec4<u32>,
    row0: u32,       // first row of the slab in the matrices of all experts one after the other
    slab_rows: u32,  // rows in the slab
    units: u32,      // cols / 16
    rows: u32,       // of an expert
    per: u32,        // choices that have the same row of x
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> expert: u32;
var<private> choice: u32;

// The row of the slab where the expert of choice s begins; at least slab_rows if it is in another slab.
fn expert_row(s: u32, lid: u32) -> u32 {
    choice = s;
    if (lid == 0u) {
        expert = ids[s];
    }
    return workgroupUniformLoad(&expert) * p.rows - p.row0;
}

fn input_row(t: u32) -> u32 {
    return choice / p.per + t;
}

fn row_of(group: u32, r: u32) -> u32 {
    return group * ROWS + r;
}

fn store_rows(workgroup: u32, lid: u32) {
    let lane = lid % LANES;
    sum_lanes(lid);
    for (var r = lane; r < ROWS; r += LANES) {
        let row = row_of(workgroup * GROUPS + lid / LANES, r);
        if (row < p.rows) {
            y[choice * p.rows + row] = sum_of(r, lid - lane);
        }
    }
}
