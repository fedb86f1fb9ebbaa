// Q8_0: x = d q. plane 0: 32 signed bytes a block, in order; plane 1: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w4[(planes.x >> 2u) + u];
    let d = half_at(planes.y, u >> 1u);
    return mat4x4<f32>(
        d * vec4<f32>(unpack4xI8(q.x)), d * vec4<f32>(unpack4xI8(q.y)),
        d * vec4<f32>(unpack4xI8(q.z)), d * vec4<f32>(unpack4xI8(q.w)));
}
