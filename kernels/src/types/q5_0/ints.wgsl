// Q5_0: x = d (q - 16). plane 0: low nibbles, plane 1: fifth bits (a word a block), both in group
// order; plane 2: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 1u;
    let d = half_at(planes.z, b);
    let low = nibble_groups(half_of(w4[(planes.x >> 2u) + b], u));
    return Ints(low | (bit_groups(w1[planes.y + b], u & 1u) << vec4<u32>(4u)), d, -16.0 * d);
}
