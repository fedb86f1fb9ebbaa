// TQ2_0: x = d (q - 1). plane 0: 2-bit fields in pair order, a word for each 16; plane 1: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + u];
    let s = vec4<f32>(half_at(planes.y, u >> 4u));
    return mat4x4<f32>(
        fma(vec4<f32>(crumbs(q, 0u)), s, -s), fma(vec4<f32>(crumbs(q, 1u)), s, -s),
        fma(vec4<f32>(crumbs(q, 2u)), s, -s), fma(vec4<f32>(crumbs(q, 3u)), s, -s));
}
