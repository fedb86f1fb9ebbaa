// Q2_K: x = d sc q - dmin m. plane 0: 2-bit fields in group order, a word for each 16; plane 1: a byte
// for each 16, sc in its low and m in its high nibble; plane 2: {d, dmin} as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let sm = extractBits(w1[planes.y + (u >> 2u)], 8u * (u & 3u), 8u);
    let dm = unpack2x16float(w1[planes.z + (u >> 4u)]) * vec2<f32>(f32(sm & 15u), f32(sm >> 4u));
    return Ints(crumb_groups(w1[planes.x + u]), dm.x, -dm.y);
}
