// SwiGLU, in place:  gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i]
// Shazeer 2020, arXiv:2002.05202.
//
// gate, up  [n] f32
//
// One invocation computes one value.

struct Params {
    n: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> up: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i < p.n) {
        let g = gate[i];
        // exp(-g) overflows to infinity below -88, where the quotient is rightly 0.
        gate[i] = g / (1.0 + exp(-max(g, -80.0))) * up[i];
    }
}
