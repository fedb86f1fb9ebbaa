// silu(v) = v / (1 + exp(-v)), and its slope s (1 + v (1 - s)), s = 1 / (1 + exp(-v))

fn act(v: f32) -> f32 {
    // exp(-v) overflows to infinity below -88, where the quotient is rightly 0.
    return v / (1.0 + exp(-max(v, -80.0)));
}

fn act_and_slope(v: f32) -> vec2<f32> {
    // Beyond 80, exp overflows and s is 0 or 1 to all bits; e s is 1 - s without cancellation.
    let e = exp(clamp(-v, -80.0, 80.0));
    let s = 1.0 / (1.0 + e);
    return vec2<f32>(v * s, s * fma(v, e * s, 1.0));
}
