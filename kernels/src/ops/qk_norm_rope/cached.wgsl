// Tokens of one sequence, on their way to the KV cache.
//
// state  word 0: position of the batch's first token

@group(0) @binding(1) var<storage, read> state: array<u32>;

fn position_of(token: u32) -> u32 {
    return state[0] + p.token0 + token;
}

fn place_of(token: u32) -> u32 {
    let at = position_of(token);
    return select(at % max(p.context, 1u), at, p.context == 0u);
}
