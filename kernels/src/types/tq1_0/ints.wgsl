// TQ1_0: x = d t. plane 0: three vec4 a block, each of 16 bytes with five digits, in group order; plane
// 1: a word a block, the four bytes with the last 16 digits; plane 2: d as f16. A digit is t + 1.

// 3^n for n < 5.
fn power3(n: u32) -> u32 {
    return select(select(27u, 81u, n == 4u), select(select(1u, 3u, n == 1u), 9u, n == 2u), n < 3u);
}

// The digits of the even bytes of four words after multiplication with powers of 3.
fn digits(even: vec4<u32>, powers: vec4<u32>) -> vec4<u32> {
    let rest = (even * powers) & vec4<u32>(0x00ff00ffu);
    return ((rest * vec4<u32>(3u)) >> vec4<u32>(8u)) & vec4<u32>(0x00030003u);
}

fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let b = u >> 4u;
    let k = u & 15u;
    // Units 0-9 take turns at two vec4, a digit for each turn; 10-14 take the third.
    let early = k < 10u;
    let q = w4[(planes.x >> 2u) + 3u * b + select(2u, k & 1u, early)];
    let power = vec4<u32>(power3(select(k - 10u, k >> 1u, early)));
    // Unit 15 has digit n of four bytes as its values 4n to 4n + 3.
    let last = k == 15u;
    let w = w1[planes.y + b];
    let pair = vec2<u32>((w & 255u) | ((w & 0xff00u) << 8u), ((w >> 16u) & 255u) | ((w >> 8u) & 0xff0000u));
    let even = select(q & vec4<u32>(0x00ff00ffu), pair.xyxy, last);
    let odd = select((q >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu), pair.xyxy, last);
    let even_power = select(power, vec4<u32>(1u, 1u, 9u, 9u), last);
    let odd_power = select(power, vec4<u32>(3u, 3u, 27u, 27u), last);
    let d = half_at(planes.z, b);
    return Ints(digits(even, even_power) | (digits(odd, odd_power) << vec4<u32>(8u)), d, -d);
}
