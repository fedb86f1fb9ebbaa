// Q6_K: x = d sc (q - 32). plane 0: low nibbles, a vec4 for each 32; plane 1: upper two bits, a word
// for each 16, both in group order; plane 2: scales as signed bytes, one for each 16; plane 3: d as f16.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let low = nibble_groups(half_of(w4[(planes.x >> 2u) + (u >> 1u)], u));
    let high = crumb_groups(w1[planes.y + u]);
    let sc = f32(extractBits(bitcast<i32>(w1[planes.z + (u >> 2u)]), 8u * (u & 3u), 8u));
    let s = half_at(planes.w, u >> 4u) * sc;
    return Ints(low | (high << vec4<u32>(4u)), s, -32.0 * s);
}
