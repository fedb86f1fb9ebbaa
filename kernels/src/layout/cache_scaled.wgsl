// What caches with scales have in common: 8 values in `Packed`, and the scale of their block of 32, of which a word has
// two. A value is scale * (value here - zero).

struct Held {
    q: Packed,
    scale: u32,
}

// The half of the word that is the scale of these 8 values, in the low half.
fn scale_of(word: u32, i: u32) -> u32 {
    return word >> (i % (HD / 8u) / 4u % 2u * 16u);
}

fn packed_key(i: u32) -> Packed {
    return k_cache[i];
}

fn packed_value(i: u32) -> Packed {
    return v_cache[i];
}

fn held_key(i: u32) -> Held {
    return Held(packed_key(i), key_scale(i));
}

fn held_value(i: u32) -> Held {
    return Held(packed_value(i), value_scale(i));
}

fn scale(half: u32) -> f32 {
    return unpack2x16float(half).x;
}

fn wide(h: Held) -> mat2x4<f32> {
    let d = vec4<f32>(scale(h.scale));
    let x = values(h.q);
    let base = d * -zero(h.scale);
    return mat2x4<f32>(fma(x[0], d, base), fma(x[1], d, base));
}
