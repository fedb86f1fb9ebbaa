// IQ2_XXS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {four indices} and {signs, s in
// place of those implied}; plane 1: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let g = half_of(w4[(planes.x >> 2u) + (u >> 2u)], u >> 1u);
    let index = g.x >> (16u * (u & 1u));
    let signs = implied_signs(g.y >> (4u * (u & 1u)));
    let scale = half_at(planes.y, u >> 4u) * fma(f32(spare_bits(g.y)), 0.25, 0.125);
    let q = book_groups(index & 255u, (index >> 8u) & 255u);
    return Ints(with_signs(levels(q), signs), scale, 0.0);
}
