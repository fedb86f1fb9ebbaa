// A cache of f16: 8 values in a vec4.

alias Held = vec4<u32>;

fn held_key(i: u32) -> Held {
    return k_cache[i];
}

fn held_value(i: u32) -> Held {
    return v_cache[i];
}

fn wide(h: Held) -> mat2x4<f32> {
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(h.x), unpack2x16float(h.y)),
        vec4<f32>(unpack2x16float(h.z), unpack2x16float(h.w)));
}
