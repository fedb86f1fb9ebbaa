// Activation:  y[i] = act(x[i])
//
// What act is, a fragment says (silu.wgsl, gelu_erf.wgsl, ...).
// x  [values / width, width] f32
// y  the same in f32, f16 or f16 in tiles
//
// One invocation computes one value.

struct Params {
    values: u32,
    width: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Out>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n < p.values) {
        y[place(n / p.width, n % p.width, p.width)] = out(act(x[n]));
    }
}
