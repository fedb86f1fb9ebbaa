// Two values of a pair in two words.

fn store(pair: u32, key: vec2<f32>, value: vec2<f32>) {
    k_cache[2u * pair] = bitcast<u32>(key.x);
    k_cache[2u * pair + 1u] = bitcast<u32>(key.y);
    v_cache[2u * pair] = bitcast<u32>(value.x);
    v_cache[2u * pair + 1u] = bitcast<u32>(value.y);
}
