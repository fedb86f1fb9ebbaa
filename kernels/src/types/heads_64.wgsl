// A head is of 64 weights, two 32s of a block of 256 that lie 128 apart: the head of unit u, and which part of it
// the unit is.
fn head_and_part(u: u32) -> vec2<u32> {
    return vec2<u32>(((u >> 4u) << 2u) | ((u >> 1u) & 3u), ((u >> 2u) & 2u) | (u & 1u));
}

