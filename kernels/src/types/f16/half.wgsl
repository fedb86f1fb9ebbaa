// dequant16h of F16: the stored bits.
fn half4_of(a: u32, b: u32) -> vec4<f16> {
    return vec4<f16>(vec2<f16>(unpack2x16float(a)), vec2<f16>(unpack2x16float(b)));
}
fn dequant16h(planes: vec4<u32>, u: u32) -> mat4x4<f16> {
    let a = load4((planes.x >> 2u) + 2u * u);
    let b = load4((planes.x >> 2u) + 2u * u + 1u);
    return mat4x4<f16>(half4_of(a.x, a.y), half4_of(a.z, a.w), half4_of(b.x, b.y), half4_of(b.z, b.w));
}
