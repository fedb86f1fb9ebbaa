//@ param NTH =
// Q4_1: x = d q + m. plane 0: 32 nibbles a block in group order; plane 1: {d, m} as f16.
struct Head$NTH {
    q: vec4<u32>,
    dm: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(load4((planes.x >> 2u) + v), unpack2x16float(w1[planes.y + v]));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(nibble_groups(half_of(h.q, half)), h.dm.x, h.dm.y);
}
