// BF16: plane 0 holds the values, 16 in two vec4; a value is the upper half of an f32.
fn quad16(a: u32, b: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let a = load4((planes.x >> 2u) + 2u * u);
    let b = load4((planes.x >> 2u) + 2u * u + 1u);
    return mat4x4<f32>(quad16(a.x, a.y), quad16(a.z, a.w), quad16(b.x, b.y), quad16(b.z, b.w));
}
