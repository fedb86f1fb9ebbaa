// The 16 values of the non-linear 4-bit types, as signed bytes.
const CODEBOOK = array<u32, 4>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);

fn code(q: u32) -> f32 {
    var book = CODEBOOK;
    return f32(extractBits(bitcast<i32>(book[q >> 2u]), 8u * (q & 3u), 8u));
}

fn coded(w: u32, s: u32) -> vec4<f32> {
    return vec4<f32>(
        code((w >> s) & 15u), code((w >> (s + 16u)) & 15u),
        code((w >> (s + 4u)) & 15u), code((w >> (s + 20u)) & 15u));
}

// Sixteen coded nibbles in pair order, times d.
fn coded16(q: vec2<u32>, d: f32) -> mat4x4<f32> {
    return mat4x4<f32>(
        d * coded(q.x, 0u), d * coded(q.x, 8u), d * coded(q.y, 0u), d * coded(q.y, 8u));
}
