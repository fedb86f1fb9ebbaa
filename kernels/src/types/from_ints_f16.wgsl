// dequant16h from ints16, scaled in f16: 0x6400 | b is 1024 + b for a byte b, which spares the
// conversion of integers, four times as slow as arithmetic on many GPUs.

// Bytes 0 and 2 of w, signed.
fn byte_pair_h(w: u32) -> vec2<f16> {
    return vec2<f16>(unpack2x16float((w & 0x00ff00ffu) ^ 0x64806480u)) - vec2<f16>(1152.0h);
}

fn half16(i: Ints) -> mat4x4<f16> {
    let s = vec2<f16>(f16(i.scale));
    let o = vec2<f16>(f16(i.offset));
    return mat4x4<f16>(
        vec4<f16>(fma(byte_pair_h(i.q.x), s, o), fma(byte_pair_h(i.q.y), s, o)),
        vec4<f16>(fma(byte_pair_h(i.q.x >> 8u), s, o), fma(byte_pair_h(i.q.y >> 8u), s, o)),
        vec4<f16>(fma(byte_pair_h(i.q.z), s, o), fma(byte_pair_h(i.q.w), s, o)),
        vec4<f16>(fma(byte_pair_h(i.q.z >> 8u), s, o), fma(byte_pair_h(i.q.w >> 8u), s, o)));
}

fn dequant16h(planes: vec4<u32>, u: u32) -> mat4x4<f16> {
    return half16(ints16(planes, u));
}

// The 32 weights of units 2v and 2v + 1, their head read once.
struct Halves {
    a: mat4x4<f16>,
    b: mat4x4<f16>,
}
fn dequant32h(planes: vec4<u32>, v: u32) -> Halves {
    let at = head_and_part(2u * v);
    let h = head_of(planes, at.x);
    return Halves(half16(ints_of(planes, h, at.x, at.y)), half16(ints_of(planes, h, at.x, at.y + 1u)));
}
