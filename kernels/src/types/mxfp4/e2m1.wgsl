// Twice the 4-bit floats E2M1 in bytes: 0, 1, 2, 3, 4, 6, 8, 12 by the lower three bits, with the sign
// above them. From 4 on, m stands for m + (m & 3), and 7 for 2 more. The signs are applied above a bit
// that keeps bytes apart, because there is a negative zero.
fn e2m1(q: vec4<u32>) -> vec4<u32> {
    let ones = vec4<u32>(0x01010101u);
    let m = q & vec4<u32>(0x07070707u);
    let rest = m & (((m >> vec4<u32>(2u)) & ones) * vec4<u32>(3u));
    let size = m + rest + ((rest & (rest >> vec4<u32>(1u)) & ones) << vec4<u32>(1u));
    let minus = ((q >> vec4<u32>(3u)) & ones) * vec4<u32>(255u);
    let apart = vec4<u32>(0x80808080u);
    return (apart + (size & ~minus) - (size & minus)) ^ apart;
}
