// IQ2_S: x = d (1/2 + s) / 4 * ± level. plane 0: two words for each 32, {low bytes of four indices} and
// {signs}; plane 1: a byte for each 16, s and the upper two bits of both indices; plane 2: d as f16.
// The code book holds the levels.
struct Head {
    q: u32,
    signs: u32,
    h: u32,     // two bytes
    d: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let g = half_of(w4[(planes.x >> 2u) + (v >> 1u)], v & 1u);
    let h = w1[planes.y + (v >> 1u)] >> (16u * (v & 1u));
    return Head(g.x, g.y, h, half_at(planes.z, v >> 3u));
}
fn ints_of(planes: vec4<u32>, head: Head, v: u32, half: u32) -> Ints {
    let index = head.q >> (16u * half);
    let h = head.h >> (8u * half);
    let scale = head.d * fma(f32(h & 15u), 0.25, 0.125);
    let a = (index & 255u) | ((h << 4u) & 0x300u);
    let b = ((index >> 8u) & 255u) | ((h << 2u) & 0x300u);
    return Ints(with_signs(vec4<u32>(book2(a), book2(b)), head.signs >> (4u * half)), scale, 0.0);
}
