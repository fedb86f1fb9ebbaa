// A cache of q8_0: bytes for all heads of the chunk, 8 values in two words; then the f16 scales of the
// blocks of 32, two in a word, a head's in whole words. A value is scale * (byte - 128). The bytes of a
// word are values 0, 2, 1, 3, so that two of them become f16 with one mask: 1024 + byte is 0x6400 | byte.

struct Held {
    q: vec2<u32>,
    scale: u32,
}

// Word of the scale of the i-th 8 values.
fn scale_at(i: u32) -> u32 {
    return p.positions * p.kv_heads * (HD / 4u) + i / (HD / 8u) * ((HD + 63u) / 64u) + i % (HD / 8u) / 8u;
}

// The half of the word that is the scale of these 8 values, in the low half.
fn scale_of(word: u32, i: u32) -> u32 {
    return word >> (i % (HD / 8u) / 4u % 2u * 16u);
}

fn held_key(i: u32) -> Held {
    let at = scale_at(i);
    return Held(k_cache[i], scale_of(k_cache[at / 2u][at % 2u], i));
}

fn held_value(i: u32) -> Held {
    let at = scale_at(i);
    return Held(v_cache[i], scale_of(v_cache[at / 2u][at % 2u], i));
}

fn wide(h: Held) -> mat2x4<f32> {
    let d = unpack2x16float(h.scale).x;
    let low = (h.q & vec2<u32>(0x00ff00ffu)) | vec2<u32>(0x64006400u);
    let high = ((h.q >> vec2<u32>(8u)) & vec2<u32>(0x00ff00ffu)) | vec2<u32>(0x64006400u);
    let base = vec4<f32>(-1152.0 * d);
    return mat2x4<f32>(
        fma(vec4<f32>(unpack2x16float(low.x), unpack2x16float(high.x)), vec4<f32>(d), base),
        fma(vec4<f32>(unpack2x16float(low.y), unpack2x16float(high.y)), vec4<f32>(d), base));
}
