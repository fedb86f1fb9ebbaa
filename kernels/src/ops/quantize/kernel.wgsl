// Activations to 16-bit integers, for the integer matvec:
//   d = max |x| / 32512 over a unit of 16,  X = round(x / d) = 256 high + low
//
// x   [n, 16] f32
// xq  [n] (high, low), each four groups of signed bytes in group order (types/mod.rs)
// xm  [n] (d, d sum of X)
//
// One invocation quantises one unit. 32512 = 127 * 256 keeps the high byte within 127.

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
    let a = x[4u * u];
    let b = x[4u * u + 1u];
    let c = x[4u * u + 2u];
    let d = x[4u * u + 3u];
    let m = max(max(abs(a), abs(b)), max(abs(c), abs(d)));
    let largest = max(max(m.x, m.y), max(m.z, m.w));
    let inverse = select(0.0, 32512.0 / largest, largest > 1e-30);
    // The groups: (0, 4, 1, 5), (2, 6, 3, 7), and the same eight further on.
    let g = array<vec4<i32>, 4>(
        vec4<i32>(round(vec4<f32>(a.x, b.x, a.y, b.y) * inverse)),
        vec4<i32>(round(vec4<f32>(a.z, b.z, a.w, b.w) * inverse)),
        vec4<i32>(round(vec4<f32>(c.x, d.x, c.y, d.y) * inverse)),
        vec4<i32>(round(vec4<f32>(c.z, d.z, c.w, d.w) * inverse)));
    var high: vec4<u32>;
    var low: vec4<u32>;
    var sum = vec4<i32>();
    for (var i = 0u; i < 4u; i++) {
        let h = (g[i] + vec4<i32>(128)) >> vec4<u32>(8u);
        high[i] = pack4xI8(h);
        low[i] = pack4xI8(g[i] - h * 256);
        sum += g[i];
    }
    let scale = largest / 32512.0;
    xq[2u * u] = high;
    xq[2u * u + 1u] = low;
    xm[u] = vec2<f32>(scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
}
