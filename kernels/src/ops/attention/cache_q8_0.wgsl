// A cache of q8_0: bytes for all heads of the chunk, 8 values in two words; then the f16 scales of the
// blocks of 32, two in a word, a head's in whole words.

struct Held {
    q: vec2<u32>,
    scale: f32,
}

// Word of the scale of the i-th 8 values, whose halves are two blocks.
fn scale_at(i: u32) -> u32 {
    return p.positions * p.kv_heads * (HD / 4u) + i / (HD / 8u) * ((HD + 63u) / 64u) + i % (HD / 8u) / 8u;
}

fn scale_of(word: u32, i: u32) -> f32 {
    let both = unpack2x16float(word);
    return 127.0 * select(both.x, both.y, (i % (HD / 8u) / 4u) % 2u == 1u);
}

fn held_key(i: u32) -> Held {
    let q = k_cache[i / 2u];
    let at = scale_at(i);
    return Held(select(q.xy, q.zw, i % 2u == 1u), scale_of(k_cache[at / 4u][at % 4u], i));
}

fn held_value(i: u32) -> Held {
    let q = v_cache[i / 2u];
    let at = scale_at(i);
    return Held(select(q.xy, q.zw, i % 2u == 1u), scale_of(v_cache[at / 4u][at % 4u], i));
}

fn wide(h: Held) -> mat2x4<f32> {
    return mat2x4<f32>(h.scale * unpack4x8snorm(h.q.x), h.scale * unpack4x8snorm(h.q.y));
}
