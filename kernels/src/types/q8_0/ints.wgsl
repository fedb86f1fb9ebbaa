// Q8_0: x = d q. plane 0: 32 signed bytes a block in group order; plane 1: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    return Ints(w4[(planes.x >> 2u) + u], half_at(planes.y, u >> 1u), 0.0);
}
