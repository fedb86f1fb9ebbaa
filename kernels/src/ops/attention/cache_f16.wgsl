// A cache of f16: 8 values in a vec4<u32>, 4 in a vec2<u32>.

fn key8(i: u32) -> mat2x4<f32> {
    let h = k_cache[i];
    return mat2x4<f32>(
        vec4<f32>(unpack2x16float(h.x), unpack2x16float(h.y)),
        vec4<f32>(unpack2x16float(h.z), unpack2x16float(h.w)));
}

fn value4(i: u32) -> vec4<f32> {
    let h = v_cache[i];
    return vec4<f32>(unpack2x16float(h.x), unpack2x16float(h.y));
}
