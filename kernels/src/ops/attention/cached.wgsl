// Keys of one sequence in the KV cache: a token sees all positions up to its own, or the last `window`.
//
// state  word 0: position of the batch's first token

@group(0) @binding(1) var<storage, read> state: array<u32>;
@group(0) @binding(2) var<storage, read> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read> v_cache: array<Word>;

fn position_of(token: u32) -> u32 {
    return state[0] + p.token0 + token;
}

fn first_of(token: u32) -> u32 {
    let end = position_of(token) + 1u;
    return select(max(end, p.window) - p.window, 0u, p.window == 0u);
}
