// IQ1_M: x = d (2 s + 1) (t ± 1/8). plane 0: a word for each 32, see iq1_s/eights.wgsl; plane 1: 16 bits
// for each 32, the rest of the indices and four signs of shifts; plane 2: two words a block, lower two
// bits of the 16 s, {their upper bits, d as f16}. The code book holds t + 1; with q of 16 (t + 1), and 4
// more where the shift is positive, x = d (2 s + 1) (q - 18) / 16.
struct Head {
    q: u32,
    h: u32,
    low: u32,    // of two s, two bits each
    high: u32,   // and a bit each
    d: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let k = v & 7u;
    let at = planes.z + 2u * (v >> 3u);
    let upper = w1[at + 1u];
    let h = w1[planes.y + (v >> 1u)] >> (16u * (v & 1u));
    let d = unpack2x16float(upper).y * 0.0625;
    return Head(w1[planes.x + v], h, w1[at] >> (4u * k), upper >> (2u * k), d);
}
fn ints_of(planes: vec4<u32>, h: Head, v: u32, half: u32) -> Ints {
    let s = ((h.low >> (2u * half)) & 3u) | (((h.high >> half) & 1u) << 2u);
    let scale = h.d * f32(2u * s + 1u);
    let q = book_groups(two_indices(h.q, h.h, half));
    let minus = (vec2<u32>(h.h) & (vec2<u32>(0x1000u, 0x2000u) << vec2<u32>(2u * half))) != vec2<u32>();
    let shift = select(vec2<u32>(0x04040404u), vec2<u32>(), minus);
    return Ints(q | shift.xxyy, scale, -18.0 * scale);
}
