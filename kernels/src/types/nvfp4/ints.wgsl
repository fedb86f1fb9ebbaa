// NVFP4: x = UE4M3(d) / 2 * 2 E2M1(q). plane 0: 64 nibbles a block in group order, two words for each
// 16; plane 1: d, a byte for each 16.

// Half of an unsigned 8-bit float with 4 exponent bits, 3 mantissa bits and bias 7. ggml ignores the
// top bit and reads 0x7f, a NaN, as 0.
fn half_ue4m3(byte: u32) -> f32 {
    let e = (byte >> 3u) & 15u;
    let m = (byte & 7u) | select(8u, 0u, e == 0u);
    // 2^(max(e, 1) - 7) times m / 8, halved.
    let power = bitcast<f32>((max(e, 1u) + 116u) << 23u);
    return select(f32(m) * power, 0.0, byte == 0x7fu);
}

fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let d = half_ue4m3(extractBits(w1[planes.y + (u >> 2u)], 8u * (u & 3u), 8u));
    return Ints(e2m1(nibble_groups(half_of(w4[(planes.x >> 2u) + (u >> 1u)], u))), d, 0.0);
}
