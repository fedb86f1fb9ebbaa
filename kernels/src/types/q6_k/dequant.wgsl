// Q6_K: x = d sc (q - 32). plane 0: low nibbles, a vec4 for each 32; plane 1: upper two bits, a word
// for each 16, both in pair order; plane 2: scales as signed bytes, one for each 16; plane 3: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = half_of(w4[(planes.x >> 2u) + (u >> 1u)], u);
    let h = w1[planes.y + u];
    let sc = f32(extractBits(bitcast<i32>(w1[planes.z + (u >> 2u)]), 8u * (u & 3u), 8u));
    let s = vec4<f32>(half_at(planes.w, u >> 4u) * sc);
    let o = -32.0 * s;
    return mat4x4<f32>(
        fma(nibbles_lo(q.x) + 16.0 * vec4<f32>(crumbs(h, 0u)), s, o),
        fma(nibbles_hi(q.x) + 16.0 * vec4<f32>(crumbs(h, 1u)), s, o),
        fma(nibbles_lo(q.y) + 16.0 * vec4<f32>(crumbs(h, 2u)), s, o),
        fma(nibbles_hi(q.y) + 16.0 * vec4<f32>(crumbs(h, 3u)), s, o));
}
