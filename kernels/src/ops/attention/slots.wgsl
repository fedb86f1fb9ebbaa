// Keys of several slots in one KV cache, `context` positions each, one after the other. Each slot has one
// token, which sees all positions of its own up to that token's, or the last `window`; an idle one none.
// Positions are places in the cache. In a ring position n of a slot lies at n mod `context`, and a dispatch counts
// from the start of the lap that a slot's token is in, or of the lap before (OLDER).
//
// state  [slots] of 8 words; word 0: position of the token, or IDLE

const IDLE: u32 = 0xffffffffu;
const RING: u32 = 4u;
const OLDER: u32 = 8u;

@group(0) @binding(1) var<storage, read> state: array<u32>;
@group(0) @binding(2) var<storage, read> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read> v_cache: array<Word>;

// What a slot's positions count from; beyond all of them where there is no lap before.
fn origin(position: u32) -> u32 {
    if ((p.flags & RING) == 0u) {
        return 0u;
    }
    let lap = position / p.context;
    let older = select(0u, 1u, (p.flags & OLDER) != 0u);
    return select((lap - older) * p.context, IDLE, older > lap);
}

// One past the last key that a slot's token sees, and the first.
fn end_of(slot: u32) -> u32 {
    let position = state[8u * slot];
    let start = origin(position);
    let end = min(max(position + 1u, start) - start, p.context);
    return select((p.token0 + slot) * p.context + end, 0u, position == IDLE);
}

fn first_of(slot: u32) -> u32 {
    let position = state[8u * slot];
    let start = origin(position);
    let before = select(max(position + 1u, p.window) - p.window, 0u, p.window == 0u);
    return select((p.token0 + slot) * p.context + max(before, start) - start, IDLE, position == IDLE);
}

// The position in its slot of a key, as keys are counted here.
fn position_at(key: u32, slot: u32) -> u32 {
    return key - (p.token0 + slot) * p.context + origin(state[8u * slot]);
}

// The key that the tile of another begins with.
fn tile_of(key: u32) -> u32 {
    return key;
}

// The place in the chunk of the first key of a tile.
fn place_of(key: u32, token: u32) -> u32 {
    return key - p.position0;
}
