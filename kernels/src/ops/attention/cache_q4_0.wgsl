// A cache of q4_0: nibbles for all heads of the chunk, 8 values in a word, the first lowest; then the f16
// scales of the blocks of 32, two in a word, a head's in whole words. A value is scale * (nibble - 8).

struct Held {
    q: u32,
    scale: f32,
}

// Word of the scale of the i-th 8 values, whose halves are two blocks.
fn scale_at(i: u32) -> u32 {
    return p.positions * p.kv_heads * (HD / 8u) + i / (HD / 8u) * ((HD + 63u) / 64u) + i % (HD / 8u) / 8u;
}

fn scale_of(word: u32, i: u32) -> f32 {
    let both = unpack2x16float(word);
    return select(both.x, both.y, (i % (HD / 8u) / 4u) % 2u == 1u);
}

fn held_key(i: u32) -> Held {
    let at = scale_at(i);
    return Held(k_cache[i / 4u][i % 4u], scale_of(k_cache[at / 4u][at % 4u], i));
}

fn held_value(i: u32) -> Held {
    let at = scale_at(i);
    return Held(v_cache[i / 4u][i % 4u], scale_of(v_cache[at / 4u][at % 4u], i));
}

fn nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
}

fn wide(h: Held) -> mat2x4<f32> {
    return mat2x4<f32>(h.scale * nibbles(h.q), h.scale * nibbles(h.q >> 16u));
}
