// An input h w still to be divided by the root mean square of h, whose squares come, 2^-40 times, a sum
// for each 16 behind the scales in xm. The quotient commutes with the product, so it waits for the end.

// Before sum_lanes: part of the sum of all squares, as the last of the SUMS.
fn sum_squares(lid: u32) {
    var sum = 0.0;
    for (var i = lid % LANES; i < p.units / 4u; i += LANES) {
        sum += dot(xm[p.units / 2u + i], vec4<f32>(1.0));
    }
    part[(SUMS - 1u) * WG + lid] = sum;
}

fn input_scale(first_lane: u32) -> f32 {
    let down = 9.5367431640625e-7;
    let mean = part[(SUMS - 1u) * WG + first_lane] / f32(16u * p.units);
    return down * inverseSqrt(mean + p.eps * down * down);
}
