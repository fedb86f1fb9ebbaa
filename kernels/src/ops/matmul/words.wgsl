// The slab four words at a time.
@group(0) @binding(1) var<storage, read> w4: array<vec4<u32>>;
