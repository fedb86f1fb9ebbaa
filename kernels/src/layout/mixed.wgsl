// Tokens of any slots, several of each or none.
//
// state  from word p.piece on: [tokens] of two words, the position of each token, or IDLE, and its slot

fn position_of(token: u32) -> u32 {
    return state[p.piece + 2u * (p.token0 + token)];
}

fn slot_of(token: u32) -> u32 {
    return state[p.piece + 2u * (p.token0 + token) + 1u];
}
