// Indices and entries of the code book of eights. The four indices of 32 weights, of 11 bits: 0, 1 and
// ten bits of 2 in a word, 3 and the upper bit of 2 in the lower 12 bits of a half.

// Those of unit `half`.
fn two_indices(word: u32, half_word: u32, half: u32) -> vec2<u32> {
    let first = vec2<u32>(word, word >> 11u) & vec2<u32>(0x7ffu);
    let second = vec2<u32>((word >> 22u) | ((half_word >> 1u) & 0x400u), half_word & 0x7ffu);
    return select(first, second, half == 1u);
}

// Sixteen nibbles from two entries, as four groups of bytes, each times 16.
fn book_groups(at: vec2<u32>) -> vec4<u32> {
    let x = book(at.x);
    let y = book(at.y);
    return vec4<u32>(x << 4u, x, y << 4u, y) & vec4<u32>(0xf0f0f0f0u);
}
