//@ param NTH =
// TQ2_0: x = d (q - 1). plane 0: 2-bit fields in group order, a word for each 16; plane 1: d as f16.
struct Head$NTH {
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(half_at(planes.y, v >> 3u));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(crumb_groups(w1[planes.x + 2u * v + half]), h.d, -h.d);
}
