// Fields in group order, see mod.rs.

// 16 4-bit fields of two words, 16 2-bit fields of one word, 16 1-bit fields of half a word: as four
// groups of bytes.
fn nibble_groups(w: vec2<u32>) -> vec4<u32> {
    return vec4<u32>(w.x, w.x >> 4u, w.y, w.y >> 4u) & vec4<u32>(0x0f0f0f0fu);
}
fn crumb_groups(w: u32) -> vec4<u32> {
    return vec4<u32>(w, w >> 2u, w >> 4u, w >> 6u) & vec4<u32>(0x03030303u);
}
fn bit_groups(w: u32, half: u32) -> vec4<u32> {
    let v = w >> (4u * half);
    return vec4<u32>(v, v >> 1u, v >> 2u, v >> 3u) & vec4<u32>(0x01010101u);
}

// Half 0 or 1 of the vec4 that holds the nibbles of 32, the words of 16.
fn half_of(q: vec4<u32>, half: u32) -> vec2<u32> {
    return select(q.xy, q.zw, half == 1u);
}

// Entry i of an array of f16 that starts at word `base`.
fn half_at(base: u32, i: u32) -> f32 {
    return unpack2x16float(w1[base + (i >> 1u)] >> (16u * (i & 1u))).x;
}
