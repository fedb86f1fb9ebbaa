// dequant16h from dequant16, for types that are floats: BF16 has no more bits than f16, but a wider
// range. A weight beyond f16 becomes infinite.
fn dequant16h(planes: vec4<u32>, u: u32) -> mat4x4<f16> {
    let w = dequant16(planes, u);
    return mat4x4<f16>(vec4<f16>(w[0]), vec4<f16>(w[1]), vec4<f16>(w[2]), vec4<f16>(w[3]));
}
