// The slab four words at a time, as two of 64 bits.
@group(0) @binding(1) var<storage, read> w4: array<vec2<u64>>;
