// Into a cache of q8_0 (see cache_q8_0.wgsl): scale = largest magnitude / 127, byte = round(x / scale) + 128.
// The least and the largest value of each block lie in `extremes`, keys before values.

// The scale in the low half; what is infinite or no number is the second of the two.
fn scale_for(extreme: vec2<f32>) -> u32 {
    let largest = select(abs(extreme.y), -extreme.x, -extreme.x > extreme.y);
    return pack2x16float(vec2<f32>(largest / 127.0, 0.0));
}

fn bytes(x: vec4<f32>, inverse: f32) -> u32 {
    let q = vec4<u32>(clamp(floor(x * inverse + 0.5), vec4<f32>(-127.0), vec4<f32>(127.0)) + 128.0);
    return q.x | (q.y << 16u) | (q.z << 8u) | (q.w << 24u);
}

fn narrow(x: mat2x4<f32>, block: u32) -> vec2<u32> {
    let scale = unpack2x16float(scale_for(extremes[block])).x;
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    return vec2<u32>(bytes(x[0], inverse), bytes(x[1], inverse));
}

fn scales(block: u32, last: u32) -> u32 {
    let next = select(0u, scale_for(extremes[min(block + 1u, last - 1u)]), block + 1u < last);
    return scale_for(extremes[block]) | (next << 16u);
}

fn store_key(row: u32, c: u32, x: mat2x4<f32>) {
    k_cache[row * (HD / 8u) + c] = narrow(x, c / 4u);
    if (c % 8u == 0u) {
        let at = p.positions * p.kv_heads * (HD / 4u) + row * ((HD + 63u) / 64u) + c / 8u;
        k_cache[at / 2u][at % 2u] = scales(c / 4u, HD / 32u);
    }
}

fn store_value(row: u32, c: u32, x: mat2x4<f32>) {
    v_cache[row * (HD / 8u) + c] = narrow(x, HD / 32u + c / 4u);
    if (c % 8u == 0u) {
        let at = p.positions * p.kv_heads * (HD / 4u) + row * ((HD + 63u) / 64u) + c / 8u;
        v_cache[at / 2u][at % 2u] = scales(HD / 32u + c / 4u, HD / 16u);
    }
}
