// IQ3_XXS: x = d (1/2 + s) / 2 * ± level. plane 0: a word for each 16, four indices; plane 1: a word for
// each 32, four times seven signs and s; plane 2: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + u];
    let rest = w1[planes.y + (u >> 1u)];
    let bits = rest >> (14u * (u & 1u));
    let a = even_signs(bits);
    let b = even_signs(bits >> 7u);
    let scale = half_at(planes.z, u >> 4u) * fma(f32(rest >> 28u), 0.5, 0.25);
    return mat4x4<f32>(
        signed_quad(q & 255u, a, scale), signed_quad((q >> 8u) & 255u, a >> 4u, scale),
        signed_quad((q >> 16u) & 255u, b, scale), signed_quad(q >> 24u, b >> 4u, scale));
}
