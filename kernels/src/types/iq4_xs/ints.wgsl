//@ param NTH =
// IQ4_XS: x = d (ls - 32) codebook[q]. plane 0: 256 nibbles a block in group order, a vec4 for each
// sub-block of 32; plane 1: two words a block, {d as f16, upper bits of ls} and low nibbles of ls.
struct Head$NTH {
    q: vec4<u32>,
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let j = v & 7u;
    let at = planes.y + 2u * (v >> 3u);
    let first = w1[at];
    let ls = ((w1[at + 1u] >> (4u * j)) & 15u) | (((first >> (16u + 2u * j)) & 3u) << 4u);
    return Head$NTH(load4((planes.x >> 2u) + v), unpack2x16float(first).x * (f32(ls) - 32.0));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(coded_groups(half_of(h.q, half)), h.d, 0.0);
}
