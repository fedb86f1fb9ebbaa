// Tokens of several slots, one of each, on their way to one KV cache: `context` positions a slot, one
// slot after the other. That of an idle slot goes nowhere.
//
// state  [tokens] of 8 words; word 0: position of the token, or IDLE

const IDLE: u32 = 0xffffffffu;

@group(0) @binding(1) var<storage, read> state: array<u32>;

fn position_of(slot: u32) -> u32 {
    let position = state[8u * slot];
    return select(position, 0u, position == IDLE);
}

fn place_of(slot: u32) -> u32 {
    let position = state[8u * slot];
    return select((p.token0 + slot) * p.context + position % p.context, IDLE, position == IDLE);
}
