// tanh(v), and its slope 1 - tanh(v)^2

fn act(v: f32) -> f32 {
    // Beyond 15 it is 1 to all bits, and what drivers make of large arguments overflows. What they make of small
    // ones cancels: there the series has more bits.
    let square = v * v;
    let series = fma(v * square, fma(square, 0.13333333, -0.33333333), v);
    return select(tanh(clamp(v, -15.0, 15.0)), series, abs(v) < 0.05);
}

fn act_and_slope(v: f32) -> vec2<f32> {
    let y = act(v);
    return vec2<f32>(y, fma(-y, y, 1.0));
}
