// SwiGLU:  y[t, i] = g / (1 + exp(-g)) * u,   g = x[t, i],  u = x[t, width + i]
// Shazeer 2020, arXiv:2002.05202.
//
// x  [tokens, 2 width] f32: gate, then up
// y  [tokens, width] f32 or f16
//
// One invocation computes one value.

struct Params {
    tokens: u32,
    width: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n < p.tokens * p.width) {
        let at = n / p.width * p.width + n;
        let g = x[at];
        // exp(-g) overflows to infinity below -88, where the quotient is rightly 0.
        y[n] = out(g / (1.0 + exp(-max(g, -80.0))) * x[at + p.width]);
    }
}
