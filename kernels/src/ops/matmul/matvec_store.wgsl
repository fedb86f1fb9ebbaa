// How sums become rows of y, with the bias and the residual: sum r * TOKENS + t of a row of lanes is its
// row r for token t.
//
// bias  [all rows] f32, read if p.flags has HAS_BIAS
// y     [TOKENS, y_stride] f32, from column p.column on; added to if p.flags has ADD

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;

@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn row_of(group: u32, r: u32) -> u32 {
    return group * ROWS + r;
}

// Nothing is needed before the sums.
fn fetch(workgroup: u32, lid: u32) {}

fn store_rows(workgroup: u32, lid: u32) {
    let lane = lid % LANES;
    sum_lanes(lid);
    for (var i = lane; i < ROWS * TOKENS; i += LANES) {
        let row = row_of(workgroup * GROUPS + lid / LANES, i / TOKENS);
        if (row < p.rows) {
            var sum = sum_of(i, lid - lane) * input_scale(i % TOKENS, lid - lane);
            if ((p.flags & HAS_BIAS) != 0u) {
                sum += bias[p.row0 + row];
            }
            let at = (i % TOKENS) * p.y_stride + p.column + p.row0 + row;
            if ((p.flags & ADD) != 0u) {
                sum += y[at];
            }
            y[at] = sum;
        }
    }
}
