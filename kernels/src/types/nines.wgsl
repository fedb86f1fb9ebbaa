// Two of four indices of 9 bits: three and five bits of the last in a word, its upper four as `rest`.
fn two_nines(word: u32, rest: u32, last: bool) -> vec2<u32> {
    let a = vec2<u32>(word, word >> 9u) & vec2<u32>(511u);
    let b = vec2<u32>((word >> 18u) & 511u, (word >> 27u) | ((rest & 15u) << 5u));
    return select(a, b, last);
}
