//@ param NTH =
// Q5_1: x = d q + m. plane 0: low nibbles, plane 1: fifth bits (a word a block), both in group
// order; plane 2: {d, m} as f16.
struct Head$NTH {
    q: vec4<u32>,
    fifth: u32,
    dm: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(load4((planes.x >> 2u) + v), w1[planes.y + v], unpack2x16float(w1[planes.z + v]));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(nibble_groups(half_of(h.q, half)) | (bit_groups(h.fifth, half) << vec4<u32>(4u)), h.dm.x, h.dm.y);
}
