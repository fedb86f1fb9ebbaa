// Twice the 4-bit floats E2M1 of nibbles s/4, s/4 + 4, s/4 + 1 and s/4 + 5 of a word: 0, 1, 2, 3, 4, 6,
// 8, 12 by the lower three bits, read off the digits of a constant, and a sign above them. Built from
// integers because E2M1 has subnormals, which a driver may flush.
fn e2m1(w: u32, s: u32) -> vec4<f32> {
    let q = vec4<u32>(w >> s, w >> (s + 16u), w >> (s + 4u), w >> (s + 20u));
    let doubled = (vec4<u32>(0xc8643210u) >> ((q & vec4<u32>(7u)) << vec4<u32>(2u))) & vec4<u32>(15u);
    let sign = (q << vec4<u32>(28u)) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(vec4<f32>(doubled)) | sign);
}

// Sixteen of them in pair order, times d.
fn e2m1_16(q: vec2<u32>, d: f32) -> mat4x4<f32> {
    return mat4x4<f32>(d * e2m1(q.x, 0u), d * e2m1(q.x, 8u), d * e2m1(q.y, 0u), d * e2m1(q.y, 8u));
}
