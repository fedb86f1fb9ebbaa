// MXFP4: x = 2^(e - 128) 2 E2M1(q). plane 0: 32 nibbles a block in group order; plane 1: e, a byte a
// block. 2^(e - 128) is subnormal for e < 2.
fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 1u;
    let e = extractBits(w1[planes.y + (b >> 2u)], 8u * (b & 3u), 8u);
    let d = bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << e, e < 2u));
    return Ints(e2m1(nibble_groups(half_of(w4[(planes.x >> 2u) + b], u))), d, 0.0);
}
