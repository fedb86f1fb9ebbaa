// The header of a Q4_K or Q5_K block, repacked: {d, dmin} as f16, low nibbles of the 8 scales, low
// nibbles of the 8 mins, and a nibble for each sub-block with the upper two bits of both.
// Returns (d * sc, dmin * m) of sub-block j.
fn scale_min_k(h: vec4<u32>, j: u32) -> vec2<f32> {
    let shift = 4u * j;
    let hi = h.w >> shift;
    let sc = ((h.y >> shift) & 15u) | ((hi & 3u) << 4u);
    let m = ((h.z >> shift) & 15u) | ((hi & 12u) << 2u);
    return unpack2x16float(h.x) * vec2<f32>(f32(sc), f32(m));
}
