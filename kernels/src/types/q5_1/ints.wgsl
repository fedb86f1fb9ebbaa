// Q5_1: x = d q + m. plane 0: low nibbles, plane 1: fifth bits (a word a block), both in group
// order; plane 2: {d, m} as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 1u;
    let dm = unpack2x16float(w1[planes.z + b]);
    let low = nibble_groups(half_of(w4[(planes.x >> 2u) + b], u));
    return Ints(low | (bit_groups(w1[planes.y + b], u & 1u) << vec4<u32>(4u)), dm.x, dm.y);
}
