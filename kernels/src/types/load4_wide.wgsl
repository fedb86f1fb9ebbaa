// Four words of the slab, the i-th four, in two loads of 64 bits.
alias Words = vec2<u64>;
fn load4(i: u32) -> vec4<u32> {
    let two = w4[i];
    return vec4<u32>(u32(two.x), u32(two.x >> 32u), u32(two.y), u32(two.y >> 32u));
}
