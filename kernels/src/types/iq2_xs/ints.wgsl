// IQ2_XS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {low bytes of four indices} and
// {signs}; plane 1: three words a block, s, a nibble for each 16, and the ninth bits of the indices, a
// nibble for each 32; plane 2: d as f16. The code book holds the levels.
struct Head {
    q: u32,
    signs: u32,
    ninth: u32, // a nibble
    s: u32,     // two nibbles
    d: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let g = half_of(w4[(planes.x >> 2u) + (v >> 1u)], v & 1u);
    let k = v & 7u;
    let at = planes.y + 3u * (v >> 3u);
    let s = w1[at + (k >> 2u)] >> (8u * (k & 3u));
    return Head(g.x, g.y, w1[at + 2u] >> (4u * k), s, half_at(planes.z, v >> 3u));
}
fn ints_of(planes: vec4<u32>, h: Head, v: u32, half: u32) -> Ints {
    let index = h.q >> (16u * half);
    let ninth = h.ninth >> (2u * half);
    let scale = h.d * fma(f32((h.s >> (4u * half)) & 15u), 0.25, 0.125);
    let a = (index & 255u) | ((ninth << 8u) & 256u);
    let b = ((index >> 8u) & 255u) | ((ninth << 7u) & 256u);
    return Ints(with_signs(vec4<u32>(book2(a), book2(b)), h.signs >> (4u * half)), scale, 0.0);
}
