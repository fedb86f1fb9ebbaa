//@ param NTH =
// IQ2_S: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {three indices of ten bits, two bits
// of the last} and {signs}; plane 1: a word for each 64, four s and then the rest of the last indices, a byte
// for each 32; plane 2: d as f16. The code book holds the levels.
struct Head$NTH {
    q: vec4<u32>,
    h: u32,
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(load4((planes.x >> 2u) + v), w1[planes.y + v], odd_of(half_at(planes.z, v >> 2u) * 0.125, 4u));
}
fn ints_of$NTH(planes: vec4<u32>, head: Head$NTH, v: u32, part: u32) -> Ints {
    let q = half_of(head.q, part >> 1u);
    let rest = head.h >> (14u + 8u * (part >> 1u));
    let first = vec2<u32>(q.x, q.x >> 10u);
    let last = vec2<u32>(q.x >> 20u, (q.x >> 30u) | (rest & 0x3fcu));
    let i = select(first, last, (part & 1u) == 1u) & vec2<u32>(1023u);
    let scale = odd_scale((head.h << (19u - 4u * part)) & 0x00780000u, head.d);
    return Ints(with_signs(vec4<u32>(book2(i.x), book2(i.y)), q.y >> (4u * (part & 1u))), scale, 0.0);
}
