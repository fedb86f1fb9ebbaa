// IQ4_NL: x = d codebook[q]. plane 0: 32 nibbles a block in group order; plane 1: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 1u;
    return Ints(coded_groups(half_of(w4[(planes.x >> 2u) + b], u)), half_at(planes.y, b), 0.0);
}
