//@ param NTH =
// Q3_K: x = d (sc - 32) (q - 4). plane 0: lower two bits, a word for each 16; plane 1: third bits, a
// word for each 32, both in group order; plane 2: three words a block, low nibbles of the 16 scales and
// then their upper two bits; plane 3: d as f16.
struct Head$NTH {
    third: u32,
    low: u32,   // two nibbles
    high: u32,  // two pairs of bits
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let k = v & 7u;
    let at = planes.z + 3u * (v >> 3u);
    let low = w1[at + (k >> 2u)] >> (8u * (k & 3u));
    return Head$NTH(w1[planes.y + v], low, w1[at + 2u] >> (4u * k), half_at(planes.w, v >> 3u));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    let low = crumb_groups(w1[planes.x + 2u * v + half]);
    let sc = ((h.low >> (4u * half)) & 15u) | (((h.high >> (2u * half)) & 3u) << 4u);
    let s = h.d * (f32(sc) - 32.0);
    return Ints(low | (bit_groups(h.third, half) << vec4<u32>(2u)), s, -4.0 * s);
}
