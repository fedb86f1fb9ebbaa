//@ param NTH =
// Q8_0: x = d q. plane 0: 32 signed bytes a block in group order; plane 1: d as f16.
struct Head$NTH {
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(half_at(planes.y, v));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(load4((planes.x >> 2u) + 2u * v + half), h.d, 0.0);
}
