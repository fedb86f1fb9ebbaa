// A cache of q8_0: bytes for all heads of the chunk, 8 values in two words; then the f16 scales of the
// blocks of 32, two in a word, a head's in whole words. A value is scale * (byte - 128). The bytes of a
// word are values 0, 2, 1, 3, so that two of them become f16 with one mask: 1024 + byte is 0x6400 | byte.

alias Packed = vec2<u32>;

// Word of the scale of the i-th 8 values.
fn scale_at(i: u32) -> u32 {
    return p.positions * p.kv_heads * (HD / 4u) + i / (HD / 8u) * ((HD + 63u) / 64u) + i % (HD / 8u) / 8u;
}

fn key_scale(i: u32) -> u32 {
    let at = scale_at(i);
    return scale_of(k_cache[at / 2u][at % 2u], i);
}

fn value_scale(i: u32) -> u32 {
    let at = scale_at(i);
    return scale_of(v_cache[at / 2u][at % 2u], i);
}

fn values(q: Packed) -> mat2x4<f32> {
    let low = (q & vec2<u32>(0x00ff00ffu)) | vec2<u32>(0x64006400u);
    let high = ((q >> vec2<u32>(8u)) & vec2<u32>(0x00ff00ffu)) | vec2<u32>(0x64006400u);
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(low.x), unpack2x16float(high.x)),
        vec4<f32>(unpack2x16float(low.y), unpack2x16float(high.y)));
}

fn zero(half: u32) -> f32 {
    return 1152.0;
}
