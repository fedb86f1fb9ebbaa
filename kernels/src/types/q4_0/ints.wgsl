//@ param NTH =
// Q4_0: x = d (q - 8). plane 0: 32 nibbles a block in group order; plane 1: d as f16.
struct Head$NTH {
    q: vec4<u32>,
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(load4((planes.x >> 2u) + v), half_at(planes.y, v));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(nibble_groups(half_of(h.q, half)), h.d, -8.0 * h.d);
}
