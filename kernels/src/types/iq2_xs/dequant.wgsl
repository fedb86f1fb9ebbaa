// IQ2_XS: x = d (1/2 + s) / 4 * ± level. plane 0: a word for each 16, twice an index of nine bits and
// seven signs; plane 1: s, a nibble for each 16; plane 2: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + u];
    let s = extractBits(w1[planes.y + (u >> 3u)], 4u * (u & 7u), 4u);
    let scale = half_at(planes.z, u >> 4u) * fma(f32(s), 0.25, 0.125);
    return signed_levels16(
        vec2<u32>(grid_entry(q & 511u), grid_entry((q >> 16u) & 511u)),
        vec2<u32>(even_signs(q >> 9u), even_signs(q >> 25u)), scale);
}
