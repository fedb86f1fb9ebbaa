// Sixteen nibbles to the values of a code book, by the pairs that a byte holds: entry i of the book is
// {value of its low nibble, 0, value of its high nibble, 0}.

// Two groups from a word of two.
fn coded(w: u32) -> vec2<u32> {
    let x = book(w & 255u) | (book((w >> 8u) & 255u) << 8u);
    let y = book((w >> 16u) & 255u) | (book(w >> 24u) << 8u);
    return vec2<u32>((x & 0xffffu) | (y << 16u), (x >> 16u) | (y & 0xffff0000u));
}

fn coded_groups(w: vec2<u32>) -> vec4<u32> {
    return vec4<u32>(coded(w.x), coded(w.y));
}
