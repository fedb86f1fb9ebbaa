// What a head of 32 weights is multiplied with: one address for both, where the second of two would be computed apart.
struct Units {
    a: vec4<u32>,
    b: vec4<u32>,
}

// The sum of the products of 16 signed bytes of each, exact.
fn dot16(a: vec4<u32>, b: vec4<u32>) -> f32 {
    return f32(
        dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}
