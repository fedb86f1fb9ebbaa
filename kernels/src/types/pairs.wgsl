// Fields in group order, see mod.rs.

// 16 4-bit fields of two words, 16 2-bit fields of one word, 16 1-bit fields of half a word: as four
// groups of bytes.
fn nibble_groups(w: vec2<u32>) -> vec4<u32> {
    return vec4<u32>(w.x, w.x >> 4u, w.y, w.y >> 4u) & vec4<u32>(0x0f0f0f0fu);
}
fn crumb_groups(w: u32) -> vec4<u32> {
    return vec4<u32>(w, w >> 2u, w >> 4u, w >> 6u) & vec4<u32>(0x03030303u);
}
fn bit_groups(w: u32, half: u32) -> vec4<u32> {
    let v = w >> (4u * half);
    return vec4<u32>(v, v >> 1u, v >> 2u, v >> 3u) & vec4<u32>(0x01010101u);
}

// Eight 4-bit fields of one word, as (0,1,2,3) and (4,5,6,7).
fn nibbles_lo(w: u32) -> vec4<f32> {
    return vec4<f32>(vec4<u32>(w, w >> 16u, w >> 4u, w >> 20u) & vec4<u32>(15u));
}
fn nibbles_hi(w: u32) -> vec4<f32> {
    return vec4<f32>(vec4<u32>(w >> 8u, w >> 24u, w >> 12u, w >> 28u) & vec4<u32>(15u));
}

// Four 2-bit fields of one word, from field 4*i on (i < 4).
fn crumbs(w: u32, i: u32) -> vec4<u32> {
    let v = w >> (8u * (i & 1u) + 4u * (i >> 1u));
    return vec4<u32>(v, v >> 16u, v >> 2u, v >> 18u) & vec4<u32>(3u);
}

// Four 1-bit fields of one word, from field 4*i on (i < 8).
fn bits4(w: u32, i: u32) -> vec4<u32> {
    let v = w >> (8u * (i & 1u) + 2u * ((i >> 1u) & 1u) + 4u * (i >> 2u));
    return vec4<u32>(v, v >> 16u, v >> 1u, v >> 17u) & vec4<u32>(1u);
}

// Sixteen 4-bit fields as scale * q + offset.
fn nibbles16(q: vec2<u32>, scale: f32, offset: f32) -> mat4x4<f32> {
    let s = vec4<f32>(scale);
    let o = vec4<f32>(offset);
    return mat4x4<f32>(
        fma(nibbles_lo(q.x), s, o), fma(nibbles_hi(q.x), s, o),
        fma(nibbles_lo(q.y), s, o), fma(nibbles_hi(q.y), s, o));
}

// Sixteen 5-bit fields: low four bits in q, fifth bits in h from field 16*half on.
fn fives16(q: vec2<u32>, h: u32, half: u32, scale: f32, offset: f32) -> mat4x4<f32> {
    let s = vec4<f32>(scale);
    let o = vec4<f32>(offset);
    let b = half * 4u;
    return mat4x4<f32>(
        fma(nibbles_lo(q.x) + 16.0 * vec4<f32>(bits4(h, b)), s, o),
        fma(nibbles_hi(q.x) + 16.0 * vec4<f32>(bits4(h, b + 1u)), s, o),
        fma(nibbles_lo(q.y) + 16.0 * vec4<f32>(bits4(h, b + 2u)), s, o),
        fma(nibbles_hi(q.y) + 16.0 * vec4<f32>(bits4(h, b + 3u)), s, o));
}

// The words of 16 nibbles: half of the vec4 that holds a block of 32.
fn half_of(q: vec4<u32>, u: u32) -> vec2<u32> {
    return select(q.xy, q.zw, (u & 1u) == 1u);
}

// Entry i of an array of f16 that starts at word `base`.
fn half_at(base: u32, i: u32) -> f32 {
    let pair = unpack2x16float(w1[base + (i >> 1u)]);
    return select(pair.x, pair.y, (i & 1u) == 1u);
}
