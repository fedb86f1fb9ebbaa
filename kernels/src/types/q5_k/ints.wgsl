//@ param NTH =
// Q5_K: x = d sc q - dmin m. plane 0: low nibbles, a vec4 for each sub-block of 32; plane 1: fifth
// bits, a word for each sub-block, both in group order; plane 2: a vec4 a block, see header_k.wgsl.
struct Head$NTH {
    q: vec4<u32>,
    fifth: u32,
    sm: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let header = load4((planes.z >> 2u) + (v >> 3u));
    return Head$NTH(load4((planes.x >> 2u) + v), w1[planes.y + v], scale_min_k(header, v & 7u));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(nibble_groups(half_of(h.q, half)) | (bit_groups(h.fifth, half) << vec4<u32>(4u)), h.sm.x, -h.sm.y);
}
