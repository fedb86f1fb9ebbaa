// The code book where the slab has it: in its first words, cached like weights.
fn book(i: u32) -> u32 {
    return w1[i];
}
fn book2(i: u32) -> vec2<u32> {
    return vec2<u32>(w1[2u * i], w1[2u * i + 1u]);
}
