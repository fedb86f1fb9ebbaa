// Two entries of eight values, each 4 t in a signed nibble, as four groups of bytes of 64 t.
fn eights(x: u32, y: u32) -> vec4<u32> {
    return vec4<u32>(x << 4u, x, y << 4u, y) & vec4<u32>(0xf0f0f0f0u);
}
