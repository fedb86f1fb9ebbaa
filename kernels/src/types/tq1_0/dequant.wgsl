// TQ1_0: x = d t. plane 0: three vec4 a block, each of 16 bytes with five digits; plane 1: a word a
// block, the four bytes with the last 16 digits; plane 2: d as f16.

// 3^n for n < 5.
fn power3(n: u32) -> u32 {
    return select(select(27u, 81u, n == 4u), select(select(1u, 3u, n == 1u), 9u, n == 2u), n < 3u);
}

// The digits of four bytes after multiplication with a power of 3, two bytes at a time.
fn digits(w: u32, power: u32) -> vec4<f32> {
    let even = (((w & 0x00ff00ffu) * power) & 0x00ff00ffu) * 3u;
    let odd = ((((w >> 8u) & 0x00ff00ffu) * power) & 0x00ff00ffu) * 3u;
    return vec4<f32>((vec4<u32>(even, odd, even, odd) >> vec4<u32>(8u, 8u, 24u, 24u)) & vec4<u32>(3u));
}

fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let b = u >> 4u;
    let k = u & 15u;
    // Groups 0-9 take turns at two vec4, a digit for each turn; 10-14 take the third; 15 the last word.
    let early = k < 10u;
    let q = w4[(planes.x >> 2u) + 3u * b + select(2u, k & 1u, early)];
    let n = power3(select(k - 10u, k >> 1u, early));
    let last = k == 15u;
    let w = select(q, vec4<u32>(w1[planes.y + b]), last);
    let powers = select(vec4<u32>(n), vec4<u32>(1u, 3u, 9u, 27u), last);
    let s = vec4<f32>(half_at(planes.z, b));
    return mat4x4<f32>(
        fma(digits(w.x, powers.x), s, -s), fma(digits(w.y, powers.y), s, -s),
        fma(digits(w.z, powers.z), s, -s), fma(digits(w.w, powers.w), s, -s));
}
