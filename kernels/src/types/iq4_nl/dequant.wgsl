// IQ4_NL: x = d codebook[q]. plane 0: 32 nibbles a block in pair order; plane 1: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let b = u >> 1u;
    return coded16(half_of(w4[(planes.x >> 2u) + b], u), half_at(planes.y, b));
}
