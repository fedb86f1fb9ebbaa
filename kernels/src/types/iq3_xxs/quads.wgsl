// Four values of an IQ3 type: scale times the four bytes of entry i, with signs.
fn signed_quad(i: u32, signs: u32, scale: f32) -> vec4<f32> {
    let level = (vec4<u32>(w1[i]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    return flip(scale * vec4<f32>(level), signs);
}
