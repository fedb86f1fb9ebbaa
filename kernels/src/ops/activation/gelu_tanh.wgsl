// gelu by tanh (Hendrycks and Gimpel 2016, arXiv:1606.08415):
//   v (1 + tanh(u)) / 2 = v / (1 + exp(-2 u)),  u = sqrt(2 / pi) (v + 0.044715 v^3)
// and its slope s + v s (1 - s) 2 u', s = 1 / (1 + exp(-2 u))

const TWICE_ROOT: f32 = 1.5957691216057308;

fn act(v: f32) -> f32 {
    let u = TWICE_ROOT * v * fma(0.044715 * v, v, 1.0);
    return v / (1.0 + exp(-max(u, -80.0)));
}

fn act_and_slope(v: f32) -> vec2<f32> {
    // Beyond 20, s is 0 or 1 to all bits, and the cube may overflow.
    let w = clamp(v, -20.0, 20.0);
    let u = TWICE_ROOT * w * fma(0.044715 * w, w, 1.0);
    let e = exp(clamp(-u, -80.0, 80.0));
    let s = 1.0 / (1.0 + e);
    return vec2<f32>(v * s, s * fma(w * e * s, TWICE_ROOT * fma(0.134145 * w, w, 1.0), 1.0));
}
