// TQ2_0: x = d (q - 1). plane 0: 2-bit fields in group order, a word for each 16; plane 1: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let d = half_at(planes.y, u >> 4u);
    return Ints(crumb_groups(w1[planes.x + u]), d, -d);
}
