// IQ2_S: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {low bytes of four indices} and
// {signs}; plane 1: a byte for each 16, s and the upper two bits of both indices; plane 2: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let g = half_of(w4[(planes.x >> 2u) + (u >> 2u)], u >> 1u);
    let index = g.x >> (16u * (u & 1u));
    let h = extractBits(w1[planes.y + (u >> 2u)], 8u * (u & 3u), 8u);
    let scale = half_at(planes.z, u >> 4u) * fma(f32(h & 15u), 0.25, 0.125);
    let a = (index & 255u) | ((h & 48u) << 4u);
    let b = ((index >> 8u) & 255u) | ((h & 192u) << 2u);
    return Ints(with_signs(levels(book_groups(a, b)), g.y >> (4u * (u & 1u))), scale, 0.0);
}
