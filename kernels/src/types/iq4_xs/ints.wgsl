// IQ4_XS: x = d (ls - 32) codebook[q]. plane 0: 256 nibbles a block in group order, a vec4 for each
// sub-block of 32; plane 1: two words a block, {d as f16, upper bits of ls} and low nibbles of ls.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let sub = u >> 1u;
    let j = sub & 7u;
    let at = planes.y + 2u * (sub >> 3u);
    let head = w1[at];
    let ls = ((w1[at + 1u] >> (4u * j)) & 15u) | (((head >> (16u + 2u * j)) & 3u) << 4u);
    let d = unpack2x16float(head).x * (f32(ls) - 32.0);
    return Ints(coded_groups(half_of(w4[(planes.x >> 2u) + sub], u)), d, 0.0);
}
