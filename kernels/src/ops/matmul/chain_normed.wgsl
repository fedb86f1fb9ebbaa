// Inputs h w still to be divided by the root mean square of h, whose squares come, 2^-40 times, a sum for each 16
// behind the scales of all tokens in xm. The quotient commutes with the product, so it waits for the end.

// The i-th of the vectors of sums of token t.
fn squares_at(t: u32, i: u32) -> f32 {
    return dot(xm[ALL * (p.units / 2u) + (token0 + t) * (p.units / 4u) + i], vec4<f32>(1.0));
}

fn input_scale(t: u32, first_lane: u32) -> f32 {
    let down = 9.5367431640625e-7;
    let mean = squares_of(t, first_lane) / f32(16u * p.units);
    return down * inverseSqrt(mean + p.eps * down * down);
}

// Token t has the t-th row of the input.
fn input_row(t: u32) -> u32 {
    return t;
}
