// Keys of a cache of q4_0 (cache_q4_0.wgsl) as integers of 8 bits, for devices that multiply four of them at a time.

// A value is scale * (integer here - middle), four in a word.
fn integers(q: Packed) -> vec2<u32> {
    return vec2<u32>(q, q >> 4u) & vec2<u32>(0x0f0f0f0fu);
}

// Integers of other 8 values in the same order.
fn as_packed(a: vec4<i32>, b: vec4<i32>) -> vec2<u32> {
    return vec2<u32>(
        pack4xI8(vec4<i32>(a.x, b.x, a.y, b.y)), pack4xI8(vec4<i32>(a.z, b.z, a.w, b.w)));
}
