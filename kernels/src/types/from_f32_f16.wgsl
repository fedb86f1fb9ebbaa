// dequant16h from dequant16, for types that are floats: BF16 has no more bits than f16, but a wider
// range, which trained weights do not use.
fn dequant16h(planes: vec4<u32>, u: u32) -> mat4x4<f16> {
    let w = dequant16(planes, u);
    let most = vec4<f32>(65504.0);
    return mat4x4<f16>(
        vec4<f16>(clamp(w[0], -most, most)), vec4<f16>(clamp(w[1], -most, most)),
        vec4<f16>(clamp(w[2], -most, most)), vec4<f16>(clamp(w[3], -most, most)));
}
