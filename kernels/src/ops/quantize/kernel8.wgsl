// Activations to 8-bit integers, for the integer product of many tokens:
//   d = max |x| / 127 over 32 values,  X = round(x / d)
//
// x   [n, 32] f32
// xq  [n] of two vec4<u32>, each four groups of signed bytes in group order (types/mod.rs)
// xm  [n] of two (d, d sum of X over 16)
//
// One invocation quantises 32 values.

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
    if (u >= p.units) {
        return;
    }
    var m = vec4<f32>();
    for (var i = 0u; i < 8u; i++) {
        m = max(m, abs(x[8u * u + i]));
    }
    let largest = max(max(m.x, m.y), max(m.z, m.w));
    let inverse = select(0.0, 127.0 / largest, largest > 1e-30);
    let scale = largest / 127.0;
    for (var h = 0u; h < 2u; h++) {
        let at = 8u * u + 4u * h;
        let a = vec4<i32>(round(x[at] * inverse));
        let b = vec4<i32>(round(x[at + 1u] * inverse));
        let c = vec4<i32>(round(x[at + 2u] * inverse));
        let d = vec4<i32>(round(x[at + 3u] * inverse));
        // The groups: (0, 4, 1, 5), (2, 6, 3, 7), and the same eight further on.
        xq[2u * u + h] = vec4<u32>(
            pack4xI8(vec4<i32>(a.x, b.x, a.y, b.y)), pack4xI8(vec4<i32>(a.z, b.z, a.w, b.w)),
            pack4xI8(vec4<i32>(c.x, d.x, c.y, d.y)), pack4xI8(vec4<i32>(c.z, d.z, c.w, d.w)));
        let sum = a + b + c + d;
        xm[2u * u + h] = vec2<f32>(scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
    }
}
