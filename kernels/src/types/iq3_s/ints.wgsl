//@ param NTH =
// IQ3_S: x = d (1 + 2 s) * ± (2 n + 1). plane 0: a word for each 16, four indices but for four bits; plane 1:
// a word for each 32, signs, bit k of the nibbles for eight k; plane 2: three words a block, those four bits,
// a nibble for each 16, and then s, a nibble for each 32; plane 3: d as f16. The code book holds n, which
// fits three bits; in four, all bits flipped are -n - 1, and 2 (-n - 1) + 1 is the negative.
struct Head$NTH {
    q: vec4<u32>,
    signs: vec2<u32>,
    rest: u32,         // four nibbles
    s: u32,            // two nibbles
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let k = v & 3u;
    let at = planes.z + 3u * (v >> 2u);
    let rest = w1[at + (k >> 1u)] >> (16u * (k & 1u));
    let signs = planes.y + 2u * v;
    return Head$NTH(
        load4((planes.x >> 2u) + v), vec2<u32>(w1[signs], w1[signs + 1u]), rest, w1[at + 2u] >> (8u * k),
        odd_of(half_at(planes.w, v >> 2u) * 0.125, 4u));
}
fn center_of(h: Head$NTH, part: u32) -> f32 {
    return 8.0;
}
// Eight signed nibbles, groups 0 and 1 of a unit in the low and high nibbles of the bytes.
fn signed_eight(i: vec2<u32>, signs: u32) -> u32 {
    return (book(i.x) + (book(i.y) << 8u)) ^ ((signs & 0x11111111u) * 15u);
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, part: u32) -> Ints {
    let q = h.q[part];
    let rest = h.rest >> (4u * part);
    let signs = h.signs[part >> 1u] >> (2u * (part & 1u));
    let x = signed_eight(two_nines(q, rest, false), signs);
    let y = signed_eight(two_nines(q, rest, true), signs >> 1u);
    let scale = odd_scale((h.s << (19u - 4u * (part >> 1u))) & 0x00780000u, h.d);
    return Ints(vec4<u32>(x << 4u, x, y << 4u, y) & vec4<u32>(0xf0f0f0f0u), scale, 8.0 * scale);
}
