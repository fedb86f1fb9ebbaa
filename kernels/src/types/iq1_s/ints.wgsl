//@ param NTH =
// IQ1_S: x = d (2 s + 1) (t ± 1/8). plane 0: three words for each 64: for each 32, indices 0, 1 and the lower
// ten bits of 2; then 16 bits for each 32, index 3, the upper bit of 2, s, and the sign of the shift; plane 1:
// d as f16. With q = 64 t from the code book, x = d (2 s + 1) / 64 (q ± 8).
struct Head$NTH {
    q: vec2<u32>,
    h: u32,
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let at = planes.x + 3u * v;
    let d = half_at(planes.y, v >> 2u) * 0.015625;
    return Head$NTH(vec2<u32>(w1[at], w1[at + 1u]), w1[at + 2u], odd_of(d, 3u));
}
// Those of the part's 32 in the upper half of a word.
fn upper_half(h: Head$NTH, part: u32) -> u32 {
    return select(h.h << 16u, h.h, part >= 2u);
}
fn center_of(h: Head$NTH, part: u32) -> f32 {
    return bitcast<f32>((upper_half(h, part) & 0x80000000u) | 0x41000000u);
}
fn ints_of$NTH(planes: vec4<u32>, head: Head$NTH, v: u32, part: u32) -> Ints {
    let q = select(head.q.x, head.q.y, part >= 2u);
    let h = upper_half(head, part);
    let scale = odd_scale((h >> 8u) & 0x00700000u, head.d);
    let first = vec2<u32>(q, q >> 11u) & vec2<u32>(0x7ffu);
    let last = vec2<u32>((q >> 22u) | ((h >> 17u) & 0x400u), (h >> 16u) & 0x7ffu);
    let i = select(first, last, (part & 1u) == 1u);
    return Ints(eights(book(i.x), book(i.y)), scale, scale * center_of(head, part));
}
