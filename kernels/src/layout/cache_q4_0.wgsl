// A cache of q4_0: nibbles for all heads of the chunk, 8 values in a word; then the f16 scales of the
// blocks of 32, two in a word, a head's in whole words. A value is scale * (nibble - zero), where the last five
// bits of the scale are zero's halves, 0 to 30: its grid then reaches from a block's least value to its largest, at no
// more bits, and the scale is read as it is. Nibbles i and i + 4 of a word are values 2i and 2i + 1, so that two of
// them become f16 with one mask: 1024 + nibble is 0x6400 | nibble.

alias Packed = u32;

// Word of the scale of the i-th 8 values.
fn scale_at(i: u32) -> u32 {
    return p.positions * p.kv_heads * (HD / 8u) + i / (HD / 8u) * ((HD + 63u) / 64u) + i % (HD / 8u) / 8u;
}

fn key_scale(i: u32) -> u32 {
    return scale_of(k_cache[scale_at(i)], i);
}

fn value_scale(i: u32) -> u32 {
    return scale_of(v_cache[scale_at(i)], i);
}

fn pair(word: u32) -> vec2<f32> {
    return unpack2x16float((word & 0x000f000fu) | 0x64006400u);
}

fn values(q: Packed) -> mat2x4<f32> {
    return mat2x4<f32>(vec4<f32>(pair(q), pair(q >> 4u)), vec4<f32>(pair(q >> 8u), pair(q >> 12u)));
}

// The nibble, in halves, that stands for zero.
fn middle(half: u32) -> f32 {
    return 0.5 * f32(half & 31u);
}

fn zero(half: u32) -> f32 {
    return 1024.0 + middle(half);
}
