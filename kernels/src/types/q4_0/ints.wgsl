// Q4_0: x = d (q - 8). plane 0: 32 nibbles a block in group order; plane 1: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 1u;
    let d = half_at(planes.y, b);
    return Ints(nibble_groups(half_of(w4[(planes.x >> 2u) + b], u)), d, -8.0 * d);
}
