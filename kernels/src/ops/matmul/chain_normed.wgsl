// An input h w still to be divided by the root mean square of h, whose squares come, 2^-40 times, a sum
// for each 16 behind the scales in xm. The quotient commutes with the product, so it waits for the end.

// This lane's part of the sum of all squares. After the walk: its loads ahead of the walk's cost registers, and by
// them more than they gained.
fn squares_of(lid: u32) -> f32 {
    var sum = 0.0;
    for (var i = lid % LANES; i < p.units / 4u; i += LANES) {
        sum += dot(xm[p.units / 2u + i], vec4<f32>(1.0));
    }
    return sum;
}

fn input_scale(first_lane: u32) -> f32 {
    let down = 9.5367431640625e-7;
    let mean = part[(SUMS - 1u) * WG + first_lane] / f32(16u * p.units);
    return down * inverseSqrt(mean + p.eps * down * down);
}

// Token t has the t-th row of the input.
fn input_row(t: u32) -> u32 {
    return t;
}
