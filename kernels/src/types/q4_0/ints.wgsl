// Q4_0: x = d (q - 8). plane 0: 32 nibbles a block in group order; plane 1: d as f16.
struct Head {
    q: vec4<u32>,
    d: f32,
}
fn head_of(planes: vec4<u32>, v: u32) -> Head {
    return Head(load4((planes.x >> 2u) + v), half_at(planes.y, v));
}
fn ints_of(planes: vec4<u32>, h: Head, v: u32, half: u32) -> Ints {
    return Ints(nibble_groups(half_of(h.q, half)), h.d, -8.0 * h.d);
}
