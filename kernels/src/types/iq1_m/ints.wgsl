//@ param NTH =
// IQ1_M: x = d (2 s + 1) (t ± 1/8). plane 0: a vec4 for each 64. Words 0 and 1 for a 32 each, of its four codes
// (1 for a positive shift, and above it an index of 11 bits) 0, 1 and the lower eight bits of 2; word 2: 16 bits
// for each 32, code 3 and the rest of 2; word 3: d as f16 and, in the upper bits, four s. With q = 64 t from the
// code book and 16 more for a positive shift, x = d (2 s + 1) / 64 (q - 8).
struct Head$NTH {
    q: vec4<u32>,
    d: vec2<f32>,
}
fn head_of$NTH(planes: vec4<u32>, v: u32) -> Head$NTH {
    let q = load4((planes.x >> 2u) + v);
    return Head$NTH(q, odd_of(unpack2x16float(q.w).x * 0.015625, 3u));
}
fn center_of(h: Head$NTH, part: u32) -> f32 {
    return -8.0;
}
fn ints_of$NTH(planes: vec4<u32>, head: Head$NTH, v: u32, part: u32) -> Ints {
    let second = part >= 2u;
    let q = select(head.q.x, head.q.y, second);
    let h = select(head.q.z, head.q.z >> 16u, second);
    let scale = odd_scale((head.q.w >> (3u * part)) & 0x00700000u, head.d);
    let first = vec2<u32>(q, q >> 12u);
    let last = vec2<u32>((q >> 24u) | ((h >> 4u) & 0xf00u), h);
    let code = select(first, last, (part & 1u) == 1u);
    let i = (code >> vec2<u32>(1u)) & vec2<u32>(0x7ffu);
    let n = vec2<u32>(book(i.x), book(i.y)) + (code & vec2<u32>(1u)) * 0x11111111u;
    return Ints(eights(n.x, n.y), scale, -8.0 * scale);
}
