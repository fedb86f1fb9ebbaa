// f16 back to f32:  y[i] = x[i]
//
// x  [n] f16, as pairs
// y  [n] f32, four at a time
//
// One invocation converts four values.

struct Params {
    quads: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i < p.quads) {
        let v = x[i];
        y[i] = vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
    }
}
