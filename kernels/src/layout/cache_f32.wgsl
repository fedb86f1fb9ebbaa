// A cache of f32: 8 values in two vec4.

struct Held {
    low: vec4<u32>,
    high: vec4<u32>,
}

fn held_key(i: u32) -> Held {
    return Held(k_cache[2u * i], k_cache[2u * i + 1u]);
}

fn held_value(i: u32) -> Held {
    return Held(v_cache[2u * i], v_cache[2u * i + 1u]);
}

fn wide(h: Held) -> mat2x4<f32> {
    return mat2x4<f32>(bitcast<vec4<f32>>(h.low), bitcast<vec4<f32>>(h.high));
}
