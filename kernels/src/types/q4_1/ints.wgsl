// Q4_1: x = d q + m. plane 0: 32 nibbles a block in group order; plane 1: {d, m} as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 1u;
    let dm = unpack2x16float(w1[planes.y + b]);
    return Ints(nibble_groups(half_of(w4[(planes.x >> 2u) + b], u)), dm.x, dm.y);
}
