// Into a cache of q8_0 (see cache_q8_0.wgsl): scale = largest magnitude / 127, q = round(x / scale). The
// value of largest magnitude of each block lies in `extremes`, keys before values.

fn scale_for(extreme: f32) -> f32 {
    return unpack2x16float(pack2x16float(vec2<f32>(abs(extreme) / 127.0, 0.0))).x;
}

fn narrow(x: mat2x4<f32>, block: u32) -> vec2<u32> {
    let scale = 127.0 * scale_for(extremes[block]);
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    return vec2<u32>(pack4x8snorm(x[0] * inverse), pack4x8snorm(x[1] * inverse));
}

fn scales(block: u32, last: u32) -> u32 {
    let next = select(0.0, extremes[min(block + 1u, last - 1u)], block + 1u < last);
    return pack2x16float(vec2<f32>(scale_for(extremes[block]), scale_for(next)));
}

fn store_key(row: u32, c: u32, x: mat2x4<f32>) {
    let i = row * (HD / 8u) + c;
    let q = narrow(x, c / 4u);
    k_cache[i / 2u][i % 2u * 2u] = q.x;
    k_cache[i / 2u][i % 2u * 2u + 1u] = q.y;
    if (c % 8u == 0u) {
        let at = p.positions * p.kv_heads * (HD / 4u) + row * ((HD + 63u) / 64u) + c / 8u;
        k_cache[at / 4u][at % 4u] = scales(c / 4u, HD / 32u);
    }
}

fn store_value(row: u32, c: u32, x: mat2x4<f32>) {
    let i = row * (HD / 8u) + c;
    let q = narrow(x, HD / 32u + c / 4u);
    v_cache[i / 2u][i % 2u * 2u] = q.x;
    v_cache[i / 2u][i % 2u * 2u + 1u] = q.y;
    if (c % 8u == 0u) {
        let at = p.positions * p.kv_heads * (HD / 4u) + row * ((HD + 63u) / 64u) + c / 8u;
        v_cache[at / 4u][at % 4u] = scales(HD / 32u + c / 4u, HD / 16u);
    }
}
