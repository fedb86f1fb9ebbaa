//@ param NTH =
// IQ2_XXS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {four indices} and {signs};
// plane 1: s, a nibble for each 32; plane 2: d as f16. The code book holds the levels.
struct Head$NTH {
    q: vec4<u32>,
    s: u32,      // two nibbles
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let s = w1[planes.y + (v >> 2u)] >> (8u * (v & 3u));
    return Head$NTH(load4((planes.x >> 2u) + v), s, odd_of(half_at(planes.z, v >> 2u) * 0.125, 4u));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, part: u32) -> Ints {
    let q = half_of(h.q, part >> 1u);
    let i = q.x >> (16u * (part & 1u));
    let scale = odd_scale((h.s << (19u - 4u * (part >> 1u))) & 0x00780000u, h.d);
    let levels = vec4<u32>(book2(i & 255u), book2((i >> 8u) & 255u));
    return Ints(with_signs(levels, q.y >> (4u * (part & 1u))), scale, 0.0);
}
