// Twice the 4-bit floats E2M1 of a unit's nibbles as four groups of bytes: 0, 1, 2, 3, 4, 6, 8, 12 by the
// lower three bits, with the sign above them. From 4 on, m stands for m + (m & 3), and 7 for 2 more.
// Nothing is minus zero: the upload makes it zero.
fn e2m1(w: vec2<u32>) -> vec4<u32> {
    let q = vec4<u32>(w.x, w.x >> 4u, w.y, w.y >> 4u);
    let ones = vec4<u32>(0x01010101u);
    let m = q & vec4<u32>(0x07070707u);
    let rest = m & (((q >> vec4<u32>(2u)) & ones) * vec4<u32>(3u));
    let size = m + rest + ((rest & (rest >> vec4<u32>(1u)) & ones) * vec4<u32>(2u));
    let minus = (q >> vec4<u32>(3u)) & ones;
    return (size ^ (minus * vec4<u32>(255u))) + minus;
}
