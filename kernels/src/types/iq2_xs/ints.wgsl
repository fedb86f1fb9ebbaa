//@ param NTH =
// IQ2_XS: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {four indices but for four bits} and
// {signs}; plane 1: three words a block, s, a nibble for each 16, and those four bits, a nibble for each 32;
// plane 2: d as f16. The code book holds the levels.
struct Head$NTH {
    q: vec4<u32>,
    s: u32,      // four nibbles
    rest: u32,   // two nibbles
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let k = v & 3u;
    let at = planes.y + 3u * (v >> 2u);
    let s = w1[at + (k >> 1u)] >> (16u * (k & 1u));
    let d = odd_of(half_at(planes.z, v >> 2u) * 0.125, 4u);
    return Head$NTH(load4((planes.x >> 2u) + v), s, w1[at + 2u] >> (8u * k), d);
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, part: u32) -> Ints {
    let q = half_of(h.q, part >> 1u);
    let i = two_nines(q.x, h.rest >> (4u * (part >> 1u)), (part & 1u) == 1u);
    let scale = odd_scale((h.s << (19u - 4u * part)) & 0x00780000u, h.d);
    return Ints(with_signs(vec4<u32>(book2(i.x), book2(i.y)), q.y >> (4u * (part & 1u))), scale, 0.0);
}
