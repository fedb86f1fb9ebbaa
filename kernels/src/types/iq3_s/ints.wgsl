// IQ3_S: x = d (1 + 2 s) * ± level. plane 0: a word for each 16, low bytes of four indices; plane 1: a
// word for each 32, signs; plane 2: three words a block, a nibble for each 16 with the ninth bits of its
// indices and then s, a nibble for each 32; plane 3: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let i = w1[planes.x + u];
    let signs = w1[planes.y + (u >> 1u)] >> (4u * (u & 1u));
    let k = u & 15u;
    let at = planes.z + 3u * (u >> 4u);
    let h = w1[at + (k >> 3u)] >> (4u * (k & 7u));
    let s = extractBits(w1[at + 2u], 4u * (k >> 1u), 4u);
    let scale = half_at(planes.w, u >> 4u) * f32(2u * s + 1u);
    let q = vec4<u32>(
        book_pair((i & 255u) | ((h & 1u) << 8u), ((i >> 8u) & 255u) | ((h & 2u) << 7u)),
        book_pair(((i >> 16u) & 255u) | ((h & 4u) << 6u), (i >> 24u) | ((h & 8u) << 5u)));
    return Ints(with_signs(q, signs), scale, 0.0);
}
