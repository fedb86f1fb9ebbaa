// A step of AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101) on a gradient clipped to a global norm:
//   g' = g scale min(1, clip / (norm scale + 1e-6))
//   m  = beta1 m + (1 - beta1) g'      v = beta2 v + (1 - beta2) g'²
//   w  = w (1 - lr weight_decay) - lr (m / correction1) / (sqrt(v / correction2) + eps)
// A norm that is not finite leaves w, m and v as they are. g becomes zero in any case.
//
// w, g, m, v  [n] vec4<f32>
// settings    the Settings below
// norm        [1] f32, of g
//
// One invocation updates four values.

struct Params {
    n: u32,
    grid_x: u32,
    first: u32,
}

struct Settings {
    lr: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    correction1: f32,
    correction2: f32,
    clip: f32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> settings: Settings;
@group(0) @binding(6) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i >= p.n) {
        return;
    }
    let s = settings;
    // All ones in the exponent: infinite, or not a number.
    if ((bitcast<u32>(norm[0] * s.scale) & 0x7f800000u) != 0x7f800000u) {
        var factor = s.scale;
        if (s.clip > 0.0) {
            factor *= min(1.0, s.clip / (norm[0] * s.scale + 1e-6));
        }
        let gradient = g[i] * factor;
        let m1 = s.beta1 * m[i] + (1.0 - s.beta1) * gradient;
        let v1 = s.beta2 * v[i] + (1.0 - s.beta2) * gradient * gradient;
        let root = sqrt(v1 / s.correction2) + s.eps;
        w[i] = w[i] * (1.0 - s.lr * s.weight_decay) - s.lr / s.correction1 * m1 / root;
        m[i] = m1;
        v[i] = v1;
    }
    g[i] = vec4<f32>();
}
