// The levels 8, 25, 43 of the fields 0, 1, 2 of an IQ2 type, byte by byte.
fn levels(q: vec4<u32>) -> vec4<u32> {
    return q * vec4<u32>(17u) + vec4<u32>(0x08080808u) + ((q >> vec4<u32>(1u)) & vec4<u32>(0x01010101u));
}
