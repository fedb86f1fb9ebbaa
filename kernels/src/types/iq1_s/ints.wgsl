// IQ1_S: x = d (2 s + 1) (t ± 1/8). plane 0: a word for each 32, see eights.wgsl; plane 1: 16 bits for
// each 32, the rest of the indices, s, and the sign of the shift; plane 2: d as f16. The code book holds
// t + 1.
struct Head {
    q: u32,
    h: u32,
    scale: f32,
    offset: f32,
}
fn head32(planes: vec4<u32>, v: u32) -> Head {
    let h = w1[planes.y + (v >> 1u)] >> (16u * (v & 1u));
    let scale = half_at(planes.z, v >> 3u) * f32(((h >> 11u) & 14u) + 1u);
    return Head(w1[planes.x + v], h, scale * 0.0625, scale * select(-0.875, -1.125, (h & 0x8000u) != 0u));
}
fn ints_of(planes: vec4<u32>, h: Head, v: u32, half: u32) -> Ints {
    return Ints(book_groups(two_indices(h.q, h.h, half)), h.scale, h.offset);
}
