// IQ1_S: x = d (2 s + 1) (t ± 1/8). plane 0: low bytes of four indices, a word for each 32; plane 1: 16
// bits for each 32, four times three upper bits of an index, s, and the sign of the shift; plane 2: d as
// f16. The code book holds t + 1.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let q = w1[planes.x + (u >> 1u)] >> (16u * (u & 1u));
    let h = extractBits(w1[planes.y + (u >> 2u)], 16u * ((u >> 1u) & 1u), 16u);
    let high = h >> (6u * (u & 1u));
    let scale = half_at(planes.z, u >> 4u) * f32(2u * ((h >> 12u) & 7u) + 1u);
    let offset = scale * select(-0.875, -1.125, h >= 0x8000u);
    let a = (q & 255u) | ((high & 7u) << 8u);
    let b = ((q >> 8u) & 255u) | ((high & 56u) << 5u);
    return Ints(book_groups(a, b), scale, offset);
}
