// The end of both matvec kernels: what each invocation has summed becomes rows of y, with the bias and
// the residual. part[i * WG + invocation] holds the sum of row i / TOKENS of its lanes' rows, for token
// i % TOKENS.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const GROUPS: u32 = WG / LANES;

var<workgroup> part: array<f32, WG * ROWS * TOKENS>;

// After a barrier. Output i * GROUPS + g is the sum of LANES parts.
fn store_rows(workgroup: u32, lid: u32) {
    for (var o = lid; o < GROUPS * ROWS * TOKENS; o += WG) {
        let g = o % GROUPS;
        let i = o / GROUPS;
        let row = (workgroup * GROUPS + g) * ROWS + i / TOKENS;
        if (row < p.rows) {
            var sum = 0.0;
            for (var l = 0u; l < LANES; l++) {
                sum += part[i * WG + g * LANES + l];
            }
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
