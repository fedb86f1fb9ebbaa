// f32 to f16, what an activation is kept in:  y[i] = f16(x[i]),  infinite where f16 does not hold x
//
// x  [n] f32, four at a time
// y  [n] f16, as pairs
//
// One invocation converts four values.

struct Params {
    quads: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2<u32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i < p.quads) {
        let v = x[i];
        y[i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
    }
}
