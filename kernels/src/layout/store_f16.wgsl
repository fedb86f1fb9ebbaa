// Into a cache of f16: 8 values in a vec4.

fn narrow(x: mat2x4<f32>) -> vec4<u32> {
    return vec4<u32>(
        pack2x16float(x[0].xy), pack2x16float(x[0].zw), pack2x16float(x[1].xy), pack2x16float(x[1].zw));
}

fn store_key(row: u32, c: u32, x: mat2x4<f32>) {
    k_cache[row * (HD / 8u) + c] = narrow(x);
}

fn store_value(row: u32, c: u32, x: mat2x4<f32>) {
    v_cache[row * (HD / 8u) + c] = narrow(x);
}
