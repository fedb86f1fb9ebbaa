// Into a cache of q4_0 (see cache_q4_0.wgsl): scale = extreme / -8, nibble = min(15, round(x / scale) + 8).
// The value of largest magnitude of each block lies in `extremes`, keys before values.

fn scale_for(extreme: f32) -> f32 {
    return unpack2x16float(pack2x16float(vec2<f32>(extreme / -8.0, 0.0))).x;
}

fn narrow(x: mat2x4<f32>, block: u32) -> u32 {
    let scale = scale_for(extremes[block]);
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    let low = vec4<u32>(clamp(x[0] * inverse + 8.5, vec4<f32>(0.0), vec4<f32>(15.0)));
    let high = vec4<u32>(clamp(x[1] * inverse + 8.5, vec4<f32>(0.0), vec4<f32>(15.0)));
    return low.x | (low.y << 16u) | (low.z << 4u) | (low.w << 20u)
        | (high.x << 8u) | (high.y << 24u) | (high.z << 12u) | (high.w << 28u);
}

fn scales(block: u32, last: u32) -> u32 {
    let next = select(0.0, extremes[min(block + 1u, last - 1u)], block + 1u < last);
    return pack2x16float(vec2<f32>(scale_for(extremes[block]), scale_for(next)));
}

fn store_key(row: u32, c: u32, x: mat2x4<f32>) {
    let i = row * (HD / 8u) + c;
    k_cache[i] = narrow(x, c / 4u);
    if (c % 8u == 0u) {
        let at = p.positions * p.kv_heads * (HD / 8u) + row * ((HD + 63u) / 64u) + c / 8u;
        k_cache[at] = scales(c / 4u, HD / 32u);
    }
}

fn store_value(row: u32, c: u32, x: mat2x4<f32>) {
    let i = row * (HD / 8u) + c;
    v_cache[i] = narrow(x, HD / 32u + c / 4u);
    if (c % 8u == 0u) {
        let at = p.positions * p.kv_heads * (HD / 8u) + row * ((HD + 63u) / 64u) + c / 8u;
        v_cache[at] = scales(HD / 32u + c / 4u, HD / 16u);
    }
}
