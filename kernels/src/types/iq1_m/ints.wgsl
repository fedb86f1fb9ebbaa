// IQ1_M: x = d (2 s + 1) (t ± 1/8). plane 0: low bytes of four indices, a word for each 32; plane 1: a
// byte for each 16, twice three upper bits of an index and the sign of its shift; plane 2: two words a
// block, lower two bits of the 16 s, {their upper bits, d as f16}. The code book holds t + 1; with q of
// 8 (t + 1), and 2 more where the shift is positive, x = d (2 s + 1) (q - 9) / 8.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let i = w1[planes.x + (u >> 1u)] >> (16u * (u & 1u));
    let h = extractBits(w1[planes.y + (u >> 2u)], 8u * (u & 3u), 8u);
    let k = u & 15u;
    let at = planes.z + 2u * (u >> 4u);
    let upper = w1[at + 1u];
    let s = ((w1[at] >> (2u * k)) & 3u) | (((upper >> k) & 1u) << 2u);
    let scale = unpack2x16float(upper).y * (f32(2u * s + 1u) * 0.125);
    let q = book_groups((i & 255u) | ((h & 7u) << 8u), ((i >> 8u) & 255u) | ((h & 112u) << 4u));
    let shift = select(vec2<u32>(0x02020202u), vec2<u32>(), vec2<bool>((h & 8u) != 0u, h >= 128u));
    return Ints((q << vec4<u32>(3u)) | shift.xxyy, scale, -9.0 * scale);
}
