// What the bias of a key at a position is turned by: the second factor of its part of a score, whose first comes with the
// query (qk_norm_rope/kernel.wgsl).
//
// table  [128 + blocks, HD / 2] of (cos, sin), two in a vec4, see rope/kernel.wgsl

@group(0) @binding(7) var<storage, read> table: array<vec4<f32>>;

// The cosines of pairs 4 c to 4 c + 3, then their sines.
fn phases(position: u32, c: u32) -> mat2x4<f32> {
    let near = (position & 127u) * (HD / 4u) + 2u * c;
    let far = (128u + (position >> 7u)) * (HD / 4u) + 2u * c;
    let a = table[near];
    let b = table[near + 1u];
    let d = table[far];
    let e = table[far + 1u];
    let nc = vec4<f32>(a.xz, b.xz);
    let ns = vec4<f32>(a.yw, b.yw);
    let fc = vec4<f32>(d.xz, e.xz);
    let fs = vec4<f32>(d.yw, e.yw);
    return mat2x4<f32>(nc * fc - ns * fs, ns * fc + nc * fs);
}
