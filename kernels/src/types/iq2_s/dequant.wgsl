// IQ2_S: x = d (1/2 + s) / 4 * ± level. plane 0: a word for each 16, {low bytes of two indices, signs of
// 16}; plane 1: a byte for each 16, s and the upper two bits of both indices; plane 2: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + u];
    let h = extractBits(w1[planes.y + (u >> 2u)], 8u * (u & 3u), 8u);
    let scale = half_at(planes.z, u >> 4u) * fma(f32(h & 15u), 0.25, 0.125);
    return signed_levels16(
        vec2<u32>(
            grid_entry((q & 255u) | ((h & 48u) << 4u)),
            grid_entry(((q >> 8u) & 255u) | ((h & 192u) << 2u))),
        vec2<u32>(q >> 16u, q >> 24u), scale);
}
