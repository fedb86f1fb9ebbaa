// Sixteen values of an IQ1 type from two indices: scale (t + shift), t one less than its field.
fn trits16(index: vec2<u32>, shift: vec2<f32>, scale: f32) -> mat4x4<f32> {
    let a = grid_entry(index.x);
    let b = grid_entry(index.y);
    let s = vec4<f32>(scale);
    let oa = vec4<f32>(scale * (shift.x - 1.0));
    let ob = vec4<f32>(scale * (shift.y - 1.0));
    return mat4x4<f32>(
        fma(grid_fields(a), s, oa), fma(grid_fields(a >> 8u), s, oa),
        fma(grid_fields(b), s, ob), fma(grid_fields(b >> 8u), s, ob));
}
