// Tokens of several slots, one of each.
//
// state  [slots] of 8 words; word 0: position of the token, or IDLE

const IDLE: u32 = 0xffffffffu;

fn position_of(token: u32) -> u32 {
    return state[8u * slot_of(token)];
}

fn slot_of(token: u32) -> u32 {
    return p.token0 + token;
}
