// Q4_K: x = d sc q - dmin m. plane 0: 256 nibbles a block in group order, a vec4 for each sub-block of
// 32; plane 1: a vec4 a block, see header_k.wgsl.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let sub = u >> 1u;
    let sm = scale_min_k(w4[(planes.y >> 2u) + (sub >> 3u)], sub & 7u);
    return Ints(nibble_groups(half_of(w4[(planes.x >> 2u) + sub], u)), sm.x, -sm.y);
}
