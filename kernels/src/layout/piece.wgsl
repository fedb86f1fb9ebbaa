// Tokens of one slot, one after the other.
//
// state  word p.piece: position of the first of them; 8 words further: their slot

fn position_of(token: u32) -> u32 {
    return state[p.piece] + p.token0 + token;
}

fn slot_of(token: u32) -> u32 {
    return state[p.piece + 8u];
}
