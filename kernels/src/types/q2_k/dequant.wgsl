// Q2_K: x = d sc q - dmin m. plane 0: 2-bit fields in pair order, a word for each 16; plane 1: a byte
// for each 16, sc in its low and m in its high nibble; plane 2: {d, dmin} as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + u];
    let sm = extractBits(w1[planes.y + (u >> 2u)], 8u * (u & 3u), 8u);
    let dm = unpack2x16float(w1[planes.z + (u >> 4u)]) * vec2<f32>(f32(sm & 15u), f32(sm >> 4u));
    let s = vec4<f32>(dm.x);
    let o = vec4<f32>(-dm.y);
    return mat4x4<f32>(
        fma(vec4<f32>(crumbs(q, 0u)), s, o), fma(vec4<f32>(crumbs(q, 1u)), s, o),
        fma(vec4<f32>(crumbs(q, 2u)), s, o), fma(vec4<f32>(crumbs(q, 3u)), s, o));
}
