// A head is of 32 weights: the head of unit u, and which part of it the unit is.
fn head_and_part(u: u32) -> vec2<u32> {
    return vec2<u32>(u >> 1u, u & 1u);
}

