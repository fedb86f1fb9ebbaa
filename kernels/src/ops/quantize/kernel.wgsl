// Activations to 8-bit integers, for the integer matvec:
//   d = max |x| / 127 over a unit of 16,  X = round(x / d)
//
// x   [n, 16] f32
// xq  [n] four groups of signed bytes in group order (types/mod.rs)
// xm  [n] (d, d sum of X)
//
// One invocation quantises one unit.

struct Params {
    units: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> xq: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> xm: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let u = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (u < p.units) {
        let unit = unit16(x[4u * u], x[4u * u + 1u], x[4u * u + 2u], x[4u * u + 3u]);
        xq[u] = unit.q;
        xm[u] = vec2<f32>(unit.scale, unit.sum);
    }
}
