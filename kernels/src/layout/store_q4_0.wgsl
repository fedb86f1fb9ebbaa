// Into a cache of q4_0 (see cache_q4_0.wgsl): scale = (largest - least) / 15, zero = -least / scale,
// nibble = round(x / scale + zero). The least and the largest value of each block lie in `extremes`, keys before
// values; zero is between them.

// Scale and zero point in the low half: of all f16 that end in the zero point, the one nearest to the scale.
fn scale_for(extreme: vec2<f32>) -> u32 {
    let bits = pack2x16float(vec2<f32>((extreme.y - extreme.x) / 15.0, 0.0));
    if ((bits & 0x7c00u) == 0x7c00u) {
        return bits; // infinite or no number, and so are the values
    }
    let zero = u32(30.0 * extreme.x / min(extreme.x - extreme.y, -1e-30) + 0.5);
    return ((max(bits + 16u, zero) - zero) & 0xffe0u) | zero;
}

fn narrow(x: mat2x4<f32>, block: u32) -> u32 {
    let bits = scale_for(extremes[block]);
    let scale = unpack2x16float(bits).x;
    let inverse = select(1.0 / scale, 0.0, scale == 0.0);
    let zero = 0.5 * f32(bits & 31u) + 0.5;
    let low = vec4<u32>(clamp(x[0] * inverse + zero, vec4<f32>(0.0), vec4<f32>(15.0)));
    let high = vec4<u32>(clamp(x[1] * inverse + zero, vec4<f32>(0.0), vec4<f32>(15.0)));
    return low.x | (low.y << 16u) | (low.z << 4u) | (low.w << 20u)
        | (high.x << 8u) | (high.y << 24u) | (high.z << 12u) | (high.w << 28u);
}

fn scales(block: u32, last: u32) -> u32 {
    let next = select(0u, scale_for(extremes[min(block + 1u, last - 1u)]), block + 1u < last);
    return scale_for(extremes[block]) | (next << 16u);
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
