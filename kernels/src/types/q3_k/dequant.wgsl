// Q3_K: x = d (sc - 32) (q - 4). plane 0: lower two bits, a word for each 16; plane 1: third bits, a
// word for each 32, both in pair order; plane 2: three words a block, low nibbles of the 16 scales and
// then their upper two bits; plane 3: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let q = w1[planes.x + u];
    let h = w1[planes.y + (u >> 1u)];
    let hb = (u & 1u) * 4u;
    let k = u & 15u;
    let at = planes.z + 3u * (u >> 4u);
    let low = (w1[at + (k >> 3u)] >> (4u * (k & 7u))) & 15u;
    let sc = low | (((w1[at + 2u] >> (2u * k)) & 3u) << 4u);
    let s = vec4<f32>(half_at(planes.w, u >> 4u) * (f32(sc) - 32.0));
    let o = -4.0 * s;
    return mat4x4<f32>(
        fma(vec4<f32>(crumbs(q, 0u) + 4u * bits4(h, hb)), s, o),
        fma(vec4<f32>(crumbs(q, 1u) + 4u * bits4(h, hb + 1u)), s, o),
        fma(vec4<f32>(crumbs(q, 2u) + 4u * bits4(h, hb + 2u)), s, o),
        fma(vec4<f32>(crumbs(q, 3u) + 4u * bits4(h, hb + 3u)), s, o));
}
