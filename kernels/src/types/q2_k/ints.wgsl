//@ param NTH =
// Q2_K: x = d sc q - dmin m. plane 0: 2-bit fields in group order, a word for each 16; plane 1: a byte
// for each 16, sc in its low and m in its high nibble; plane 2: {d, dmin} as f16.
struct Head$NTH {
    sm: u32,
    dm: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let sm = w1[planes.y + (v >> 1u)] >> (16u * (v & 1u));
    return Head$NTH(sm, unpack2x16float(w1[planes.z + (v >> 3u)]));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    let sm = h.sm >> (8u * half);
    let dm = h.dm * vec2<f32>(f32(sm & 15u), f32((sm >> 4u) & 15u));
    return Ints(crumb_groups(w1[planes.x + 2u * v + half]), dm.x, -dm.y);
}
