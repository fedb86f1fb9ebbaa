// How coop.wgsl finds its tile of x in memory.

// Eight values of x; tokens past the end repeat the last one, values past the end of the sum are zero.
fn load_x(token: u32, c: u32) -> mat2x4<f16> {
    //@ if FORWARD
    let stride = p.units * 4u;
    let base = 0u;
    let last = p.units * 4u - 1u;
    let end = p.units * 16u;
    //@ else
    let stride = p.y_stride / 4u;
    let base = (p.column + p.row0) / 4u;
    let last = (p.rows - 1u) / 4u;
    let end = p.rows;
    //@ end
    //@ if ALIGNED
    let at = token * stride + base + c / 4u;
    return mat2x4<f16>(half4(x[at]), half4(x[at + 1u]));
    //@ else
    let at = min(token, p.extent - 1u) * stride + base;
    let a = half4(x[at + min(c / 4u, last)]);
    let b = half4(x[at + min(c / 4u + 1u, last)]);
    let i = vec4<u32>(c) + vec4<u32>(0u, 1u, 2u, 3u);
    return mat2x4<f16>(
        select(vec4<f16>(), a, i < vec4<u32>(end)),
        select(vec4<f16>(), b, i + vec4<u32>(4u) < vec4<u32>(end)));
    //@ end
}
