// gelu by erf (Hendrycks and Gimpel 2016, arXiv:1606.08415):  v phi(v),  phi(v) = (1 + erf(v / sqrt(2))) / 2
// and its slope phi(v) + v exp(-v^2 / 2) / sqrt(2 pi)

// The factor of erfc(|v| / sqrt(2)) / 2 behind exp(-v^2 / 2), by Abramowitz and Stegun 7.1.26 (absolute error
// 1.5e-7). For a negative v it is phi itself, with no cancellation.
fn tail(v: f32) -> f32 {
    let t = 1.0 / fma(0.23164188, abs(v), 1.0);
    let poly = fma(t, fma(t, fma(t, fma(t, 1.061405429, -1.453152027), 1.421413741), -0.284496736), 0.254829592);
    return 0.5 * t * poly;
}

fn act(v: f32) -> f32 {
    return act_and_slope(v).x;
}

fn act_and_slope(v: f32) -> vec2<f32> {
    let w = clamp(v, -12.0, 12.0);
    let bell = exp(-0.5 * w * w);
    let under = tail(w) * bell;
    let phi = select(under, 1.0 - under, v > 0.0);
    return vec2<f32>(v * phi, fma(0.3989422804014327 * w, bell, phi));
}
