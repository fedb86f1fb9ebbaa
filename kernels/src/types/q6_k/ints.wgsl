//@ param NTH =
// Q6_K: x = d sc (q - 32). plane 0: low nibbles, a vec4 for each 32; plane 1: upper two bits, a word
// for each 16, both in group order; plane 2: scales as signed bytes, one for each 16; plane 3: d as f16.
struct Head$NTH {
    q: vec4<u32>,
    high: vec2<u32>,
    scales: u32,
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let scales = w1[planes.z + (v >> 1u)] >> (16u * (v & 1u));
    // Both words here, not in ints_of, so that they come along where heads are loaded ahead.
    let high = vec2<u32>(w1[planes.y + 2u * v], w1[planes.y + 2u * v + 1u]);
    return Head$NTH(load4((planes.x >> 2u) + v), high, scales, half_at(planes.w, v >> 3u));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    let high = crumb_groups(select(h.high.x, h.high.y, half == 1u));
    let s = h.d * f32(extractBits(bitcast<i32>(h.scales), 8u * half, 8u));
    return Ints(nibble_groups(half_of(h.q, half)) | (high << vec4<u32>(4u)), s, -32.0 * s);
}
