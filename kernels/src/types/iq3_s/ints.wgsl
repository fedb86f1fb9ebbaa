// IQ3_S: x = d (1 + 2 s) * ± level. plane 0: a word for each 16, low bytes of four indices; plane 1: a
// word for each 32, signs; plane 2: three words a block, a nibble for each 16 with the ninth bits of its
// indices and then s, a nibble for each 32; plane 3: d as f16.
struct Head {
    signs: u32,
    ninth: u32,  // two nibbles
    scale: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let k = v & 7u;
    let at = planes.z + 3u * (v >> 3u);
    let s = (w1[at + 2u] >> (4u * k)) & 15u;
    let ninth = w1[at + (k >> 2u)] >> (8u * (k & 3u));
    return Head(w1[planes.y + v], ninth, half_at(planes.w, v >> 3u) * f32(2u * s + 1u));
}
fn ints_of(planes: vec4<u32>, head: Head, v: u32, half: u32) -> Ints {
    let i = w1[planes.x + 2u * v + half];
    let h = head.ninth >> (4u * half);
    let q = vec4<u32>(
        book_pair((i & 255u) | ((h << 8u) & 256u), ((i >> 8u) & 255u) | ((h << 7u) & 256u)),
        book_pair(((i >> 16u) & 255u) | ((h << 6u) & 256u), (i >> 24u) | ((h << 5u) & 256u)));
    return Ints(with_signs(q, head.signs >> (4u * half)), head.scale, 0.0);
}
