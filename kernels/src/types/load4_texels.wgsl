// Four words of the slab, the i-th four, from a texture of 1,024 texels a row.
@group(0) @binding(1) var w4: texture_2d<u32>;
fn load4(i: u32) -> vec4<u32> {
    return textureLoad(w4, vec2<u32>(i & 1023u, i >> 10u), 0);
}
