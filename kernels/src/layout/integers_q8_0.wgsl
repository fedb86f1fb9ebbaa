// Keys of a cache of q8_0 (cache_q8_0.wgsl) as integers of 8 bits, for devices that multiply four of them at a time.

// A value is scale * (integer here), of 8 bits with a sign, four in a word.
fn integers(q: Packed) -> vec2<u32> {
    return q ^ vec2<u32>(0x80808080u);
}

// Integers of other 8 values in the same order.
fn as_packed(a: vec4<i32>, b: vec4<i32>) -> vec2<u32> {
    return vec2<u32>(pack4xI8(a.xzyw), pack4xI8(b.xzyw));
}
