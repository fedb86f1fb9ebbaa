// F32: plane 0 holds the values, 16 in four vec4.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let i = (planes.x >> 2u) + 4u * u;
    return mat4x4<f32>(
        bitcast<vec4<f32>>(load4(i)), bitcast<vec4<f32>>(load4(i + 1u)),
        bitcast<vec4<f32>>(load4(i + 2u)), bitcast<vec4<f32>>(load4(i + 3u)));
}
