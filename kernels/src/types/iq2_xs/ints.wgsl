// IQ2_XS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {low bytes of four indices} and
// {signs, the ninth bits of the indices in place of those implied}; plane 1: s, a nibble for each 16;
// plane 2: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let g = half_of(w4[(planes.x >> 2u) + (u >> 2u)], u >> 1u);
    let index = g.x >> (16u * (u & 1u));
    let v = g.y >> (4u * (u & 1u));
    let s = extractBits(w1[planes.y + (u >> 3u)], 4u * (u & 7u), 4u);
    let scale = half_at(planes.z, u >> 4u) * fma(f32(s), 0.25, 0.125);
    let a = (index & 255u) | ((v >> 17u) & 256u);
    let b = ((index >> 8u) & 255u) | ((v >> 19u) & 256u);
    return Ints(with_signs(levels(book_groups(a, b)), implied_signs(v)), scale, 0.0);
}
