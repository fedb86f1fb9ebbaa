// The signs beside the code books of the IQ2 and IQ3 types.

// Bytes of 1 to 127, negated where the bits of a unit's signs are set: bit g of each byte for group g.
fn with_signs(q: vec4<u32>, signs: u32) -> vec4<u32> {
    let minus = bit_groups(signs, 0u);
    return (q ^ (minus * vec4<u32>(255u))) + minus;
}
