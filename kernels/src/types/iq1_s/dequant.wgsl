// IQ1_S: x = d (2 s + 1) (t ± 1/8). plane 0: low bytes of four indices, a word for each 32; plane 1: 16
// bits for each 32, four times three upper bits of an index, s, and the sign of the shift; plane 2: d as
// f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + (u >> 1u)] >> (16u * (u & 1u));
    let h = extractBits(w1[planes.y + (u >> 2u)], 16u * ((u >> 1u) & 1u), 16u);
    let high = h >> (6u * (u & 1u));
    let shift = select(0.125, -0.125, h >= 0x8000u);
    let scale = half_at(planes.z, u >> 4u) * f32(2u * ((h >> 12u) & 7u) + 1u);
    let index = vec2<u32>((q & 255u) | ((high & 7u) << 8u), ((q >> 8u) & 255u) | ((high & 56u) << 5u));
    return trits16(index, vec2<f32>(shift), scale);
}
