// Four values of an IQ2 type: scale times the levels 8, 25, 43 of fields 0, 1, 2, with signs. The levels
// are 8 + 16.5 q + q^2 / 2.
fn signed_levels(entry: u32, signs: u32, scale: f32) -> vec4<f32> {
    let q = grid_fields(entry);
    let level = fma(fma(q, vec4<f32>(0.5), vec4<f32>(16.5)), q, vec4<f32>(8.0));
    return flip(scale * level, signs);
}

// Sixteen from two entries with eight signs each.
fn signed_levels16(entry: vec2<u32>, signs: vec2<u32>, scale: f32) -> mat4x4<f32> {
    return mat4x4<f32>(
        signed_levels(entry.x, signs.x, scale), signed_levels(entry.x >> 8u, signs.x >> 4u, scale),
        signed_levels(entry.y, signs.y, scale), signed_levels(entry.y >> 8u, signs.y >> 4u, scale));
}
