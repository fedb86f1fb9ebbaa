// An input h w still to be divided by the root mean square of h, whose squares come, 2^-40 times, a sum
// for each 16 behind the scales in xm. The quotient commutes with the product, so it waits for the end.

fn input_scale(first_lane: u32) -> f32 {
    let down = 9.5367431640625e-7;
    let mean = part[(SUMS - 1u) * WG + first_lane] / f32(16u * p.units);
    return down * inverseSqrt(mean + p.eps * down * down);
}
