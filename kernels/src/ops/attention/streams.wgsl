// Keys of several streams in one KV cache, `context` positions each, one after the other. Each stream has one
// token, which sees all positions of its own up to that token's, or the last `window`; an idle one none.
// Positions are places in the cache.
//
// state  [streams] of 8 words; word 0: position of the token, or IDLE

const IDLE: u32 = 0xffffffffu;

@group(0) @binding(1) var<storage, read> state: array<u32>;
@group(0) @binding(2) var<storage, read> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read> v_cache: array<Word>;

fn position_of(stream: u32) -> u32 {
    let position = state[8u * stream];
    return select((p.token0 + stream) * p.context + position, 0u, position == IDLE);
}

fn first_of(stream: u32) -> u32 {
    let position = state[8u * stream];
    let before = select(max(position + 1u, p.window) - p.window, 0u, p.window == 0u);
    return select((p.token0 + stream) * p.context + before, IDLE, position == IDLE);
}
