// d (2 s + 1) without a conversion: with s in the upper bits of the mantissa, of which there are 23, a float is
// 1 + s / 2^bits. `d` is of odd_of.
fn odd_scale(s: u32, d: vec2<f32>) -> f32 {
    return fma(bitcast<f32>(s | 0x3f800000u), d.x, d.y);
}

// What odd_scale takes for s of up to 2^bits.
fn odd_of(d: f32, bits: u32) -> vec2<f32> {
    let two = f32(2u << bits);
    return vec2<f32>(d * two, d * (1.0 - two));
}
