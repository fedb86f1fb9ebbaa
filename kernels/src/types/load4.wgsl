// Four words of the slab, the i-th four.
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
fn load4(i: u32) -> vec4<u32> {
    return w4[i];
}
