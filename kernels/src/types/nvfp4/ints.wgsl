//@ param NTH =
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

struct Head$NTH {
    q: vec4<u32>,
    d: u32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    return Head$NTH(load4((planes.x >> 2u) + v), w1[planes.y + (v >> 1u)] >> (16u * (v & 1u)));
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(e2m1(half_of(h.q, half)), half_ue4m3((h.d >> (8u * half)) & 255u), 0.0);
}
