// Q3_K: x = d (sc - 32) (q - 4). plane 0: lower two bits, a word for each 16; plane 1: third bits, a
// word for each 32, both in group order; plane 2: three words a block, low nibbles of the 16 scales and
// then their upper two bits; plane 3: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let low = crumb_groups(w1[planes.x + u]);
    let high = bit_groups(w1[planes.y + (u >> 1u)], u & 1u);
    let k = u & 15u;
    let at = planes.z + 3u * (u >> 4u);
    let nibble = (w1[at + (k >> 3u)] >> (4u * (k & 7u))) & 15u;
    let sc = nibble | (((w1[at + 2u] >> (2u * k)) & 3u) << 4u);
    let s = half_at(planes.w, u >> 4u) * (f32(sc) - 32.0);
    return Ints(low | (high << vec4<u32>(2u)), s, -4.0 * s);
}
