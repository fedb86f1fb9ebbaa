// A gated linear unit:  y[t, i] = act(x[t, i]) x[t, width + i]
// Shazeer 2020, arXiv:2002.05202; SwiGLU where act is silu, GeGLU where it is gelu.
//
// What act is, a fragment says (activation/*.wgsl).
// x  [tokens, 2 width] f32: gate, then up
// y  [tokens, width] f32, f16 or f16 in tiles
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
        y[place(n / p.width, n % p.width, p.width)] = out(act(x[at]) * x[at + p.width]);
    }
}
