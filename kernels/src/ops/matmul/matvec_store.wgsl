// The end of both matvec kernels: what each invocation has summed becomes rows of y, with the bias and
// the residual. part[i * WG + invocation] holds the sum of row i / TOKENS of its lanes' rows, for token
// i % TOKENS.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;
const GROUPS: u32 = WG / LANES;
const SUMS: u32 = ROWS * TOKENS;

var<workgroup> part: array<f32, WG * SUMS>;

fn store_rows(workgroup: u32, lid: u32) {
    let lane = lid % LANES;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s /= 2u) {
        if (lane < s) {
            for (var i = 0u; i < SUMS; i++) {
                part[i * WG + lid] += part[i * WG + lid + s];
            }
        }
        workgroupBarrier();
    }
    for (var i = lane; i < SUMS; i += LANES) {
        let row = (workgroup * GROUPS + lid / LANES) * ROWS + i / TOKENS;
        if (row < p.rows) {
            var sum = part[i * WG + lid - lane];
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
