// The code books of the IQ types. A slab of such a type begins with its table, so word i of the table
// is w1[i].

// Entry i of a table of 16-bit entries: eight fields of two bits, first value lowest.
fn grid_entry(i: u32) -> u32 {
    return w1[i >> 1u] >> (16u * (i & 1u));
}

// The four lowest of those fields.
fn grid_fields(entry: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(entry) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u));
}

// Eight signs from the low seven bits of b: the eighth makes the number of minus signs even.
fn even_signs(b: u32) -> u32 {
    let seven = b & 127u;
    return seven | ((countOneBits(seven) & 1u) << 7u);
}

// v with the sign of value i flipped where bit i of signs is set.
fn flip(v: vec4<f32>, signs: u32) -> vec4<f32> {
    let minus = (vec4<u32>(signs) << vec4<u32>(31u, 30u, 29u, 28u)) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) ^ minus);
}
