//@ param NTH =
// MXFP4: x = 2^(e - 128) 2 E2M1(q). plane 0: 32 nibbles a block in group order; plane 1: e, a byte a
// block. 2^(e - 128) is subnormal for e < 2.
struct Head$NTH {
    q: vec4<u32>,
    d: f32,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let e = extractBits(w1[planes.y + (v >> 2u)], 8u * (v & 3u), 8u);
    let d = bitcast<f32>(select((e - 1u) << 23u, 0x00200000u << e, e < 2u));
    return Head$NTH(load4((planes.x >> 2u) + v), d);
}
fn ints_of$NTH(planes: vec4<u32>, h: Head$NTH, v: u32, half: u32) -> Ints {
    return Ints(e2m1(half_of(h.q, half)), h.d, 0.0);
}
