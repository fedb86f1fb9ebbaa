// IQ2_XXS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {four indices} and {four times
// seven signs, s}; plane 1: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let g = half_of(w4[(planes.x >> 2u) + (u >> 2u)], u >> 1u);
    let index = g.x >> (16u * (u & 1u));
    let signs = g.y >> (14u * (u & 1u));
    let scale = half_at(planes.y, u >> 4u) * fma(f32(g.y >> 28u), 0.25, 0.125);
    return signed_levels16(
        vec2<u32>(grid_entry(index & 255u), grid_entry((index >> 8u) & 255u)),
        vec2<u32>(even_signs(signs), even_signs(signs >> 7u)), scale);
}
