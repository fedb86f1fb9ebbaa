// Into a cache of f32: 8 values in two vec4.

fn store_key(row: u32, c: u32, x: mat2x4<f32>) {
    let i = 2u * (row * (HD / 8u) + c);
    k_cache[i] = bitcast<vec4<u32>>(x[0]);
    k_cache[i + 1u] = bitcast<vec4<u32>>(x[1]);
}

fn store_value(row: u32, c: u32, x: mat2x4<f32>) {
    let i = 2u * (row * (HD / 8u) + c);
    v_cache[i] = bitcast<vec4<u32>>(x[0]);
    v_cache[i + 1u] = bitcast<vec4<u32>>(x[1]);
}
