// Two values of a pair in one word of f16.

fn store(pair: u32, key: vec2<f32>, value: vec2<f32>) {
    k_cache[pair] = pack2x16float(key);
    v_cache[pair] = pack2x16float(value);
}
