// IQ3_XXS: x = d (1/2 + s) / 2 * ± level. plane 0: a word for each 16, four indices; plane 1: a word for
// each 32, signs; plane 2: s, a nibble for each 32; plane 3: d as f16.
struct Head {
    signs: u32,
    scale: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let s = (w1[planes.z + (v >> 3u)] >> (4u * (v & 7u))) & 15u;
    return Head(w1[planes.y + v], half_at(planes.w, v >> 3u) * fma(f32(s), 0.5, 0.25));
}
fn ints_of(planes: vec4<u32>, h: Head, v: u32, half: u32) -> Ints {
    let i = w1[planes.x + 2u * v + half];
    let q = vec4<u32>(
        book_pair(i & 255u, (i >> 8u) & 255u), book_pair((i >> 16u) & 255u, i >> 24u));
    return Ints(with_signs(q, h.signs >> (4u * half)), h.scale, 0.0);
}
