// IQ3_XXS: x = d (1/2 + s) / 2 * ± level. plane 0: a word for each 16, four indices; plane 1: a word for
// each 32, signs with s in place of those implied; plane 2: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let i = w1[planes.x + u];
    let w = w1[planes.y + (u >> 1u)];
    let scale = half_at(planes.z, u >> 4u) * fma(f32(spare_bits(w)), 0.5, 0.25);
    let q = vec4<u32>(
        book_pair(i & 255u, (i >> 8u) & 255u), book_pair((i >> 16u) & 255u, i >> 24u));
    return Ints(with_signs(q, implied_signs(w >> (4u * (u & 1u)))), scale, 0.0);
}
