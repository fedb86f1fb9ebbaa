// A cache of f32: 4 values in a vec4<u32>, 2 in a vec2<u32>.

fn key8(i: u32) -> mat2x4<f32> {
    return mat2x4<f32>(bitcast<vec4<f32>>(k_cache[2u * i]), bitcast<vec4<f32>>(k_cache[2u * i + 1u]));
}

fn value4(i: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec2<f32>>(v_cache[2u * i]), bitcast<vec2<f32>>(v_cache[2u * i + 1u]));
}
