// IQ2_XXS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {four indices} and {signs};
// plane 1: s, a nibble for each 32; plane 2: d as f16. The code book holds the levels.
struct Head {
    q: u32,
    signs: u32,
    scale: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let g = half_of(w4[(planes.x >> 2u) + (v >> 1u)], v & 1u);
    let s = (w1[planes.y + (v >> 3u)] >> (4u * (v & 7u))) & 15u;
    return Head(g.x, g.y, half_at(planes.z, v >> 3u) * fma(f32(s), 0.25, 0.125));
}
fn ints_of(planes: vec4<u32>, h: Head, v: u32, half: u32) -> Ints {
    let index = h.q >> (16u * half);
    let q = vec4<u32>(book2(index & 255u), book2((index >> 8u) & 255u));
    return Ints(with_signs(q, h.signs >> (4u * half)), h.scale, 0.0);
}
