// The end of the kernels with register tiles: one value of y, with the bias and the residual, where it
// lies inside.

const HAS_BIAS: u32 = 1u;
const ADD: u32 = 2u;

fn store(token: u32, row: u32, value: f32) {
    if (token < p.extent && row < p.rows) {
        var sum = value;
        if ((p.flags & HAS_BIAS) != 0u) {
            sum += bias[p.row0 + row];
        }
        let at = token * p.y_stride + p.column + p.row0 + row;
        if ((p.flags & ADD) != 0u) {
            sum += y[at];
        }
        y[at] = sum;
    }
}
