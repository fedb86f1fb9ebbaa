// F16: plane 0 holds the values, 16 in two vec4.
fn quad16(a: u32, b: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let a = load4((planes.x >> 2u) + 2u * u);
    let b = load4((planes.x >> 2u) + 2u * u + 1u);
    return mat4x4<f32>(quad16(a.x, a.y), quad16(a.z, a.w), quad16(b.x, b.y), quad16(b.z, b.w));
}
