// Q5_K: x = d sc q - dmin m. plane 0: low nibbles, a vec4 for each sub-block of 32; plane 1: fifth
// bits, a word for each sub-block, both in group order; plane 2: a vec4 a block, see header_k.wgsl.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let sub = u >> 1u;
    let sm = scale_min_k(w4[(planes.z >> 2u) + (sub >> 3u)], sub & 7u);
    let low = nibble_groups(half_of(w4[(planes.x >> 2u) + sub], u));
    return Ints(low | (bit_groups(w1[planes.y + sub], u & 1u) << vec4<u32>(4u)), sm.x, -sm.y);
}
