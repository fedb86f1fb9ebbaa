// The code books of the IQ types and the signs beside them.

// Word i of the code book, with which a slab begins.
fn book(i: u32) -> u32 {
    return w1[i];
}

// Sixteen nibbles from two entries of eight, as four groups of bytes.
fn book_groups(a: u32, b: u32) -> vec4<u32> {
    let x = book(a);
    let y = book(b);
    return vec4<u32>(x, x >> 4u, y, y >> 4u) & vec4<u32>(0x0f0f0f0fu);
}

// Bytes of 1 to 127, negated where the bits of a unit's signs are set: bit g of each byte for group g.
fn with_signs(q: vec4<u32>, signs: u32) -> vec4<u32> {
    let minus = bit_groups(signs, 0u);
    return (q ^ (minus * vec4<u32>(255u))) + minus;
}

// A unit's signs where those of values 7 and 15 are implied: they make the number of minus signs even
// among eight. Their places, bits 25 and 27, hold something else.
fn implied_signs(v: u32) -> u32 {
    let first = countOneBits(v & 0x01030303u) & 1u;
    let second = countOneBits(v & 0x040c0c0cu) & 1u;
    return (v & 0x05ffffffu) | (first << 25u) | (second << 27u);
}

// The four bits that the word of two units' signs holds in those places.
fn spare_bits(w: u32) -> u32 {
    let odd = (w >> 25u) & 0x55u;
    let twos = (odd | (odd >> 1u)) & 0x33u;
    return (twos | (twos >> 2u)) & 15u;
}
