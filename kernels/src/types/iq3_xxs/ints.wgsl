//@ param NTH =
// IQ3_XXS: x = d (1/2 + s) / 2 * ± level. plane 0: a word for each 16, four indices; plane 1: a word for
// each 32, signs; plane 2: s, a nibble for each 32; plane 3: d as f16.
struct Head$NTH {
    q: vec4<u32>,
    signs: vec2<u32>,
    s: u32,            // two nibbles
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let s = w1[planes.z + (v >> 2u)] >> (8u * (v & 3u));
    let at = planes.y + 2u * v;
    let d = odd_of(half_at(planes.w, v >> 2u) * 0.25, 4u);
    return Head$NTH(load4((planes.x >> 2u) + v), vec2<u32>(w1[at], w1[at + 1u]), s, d);
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, part: u32) -> Ints {
    let i = h.q[part];
    let q = vec4<u32>(book_pair(i & 255u, (i >> 8u) & 255u), book_pair((i >> 16u) & 255u, i >> 24u));
    let scale = odd_scale((h.s << (19u - 4u * (part >> 1u))) & 0x00780000u, h.d);
    return Ints(with_signs(q, h.signs[part >> 1u] >> (4u * (part & 1u))), scale, 0.0);
}
