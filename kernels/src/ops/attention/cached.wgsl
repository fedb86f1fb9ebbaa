// Keys of one sequence in the KV cache: a token sees all positions up to its own, or the last `window`. Keys lie at
// their positions; in a ring of `context` places that of position n lies at n mod `context`, and a dispatch counts
// positions from the start of the lap that its last token is in, or of the lap before (OLDER).
//
// state  word 0: position of the batch's first token

const RING: u32 = 4u;
const OLDER: u32 = 8u;

@group(0) @binding(1) var<storage, read> state: array<u32>;
@group(0) @binding(2) var<storage, read> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read> v_cache: array<Word>;

fn position_of(token: u32) -> u32 {
    return state[0] + p.token0 + token;
}

// What positions count from; beyond all of them where there is no lap before.
fn origin() -> u32 {
    if ((p.flags & RING) == 0u) {
        return 0u;
    }
    let lap = position_of(p.tokens - 1u) / p.context;
    let older = select(0u, 1u, (p.flags & OLDER) != 0u);
    return select((lap - older) * p.context, 0xffffffffu, older > lap);
}

// One past the last key that a token sees, and the first.
fn end_of(token: u32) -> u32 {
    let start = origin();
    return max(position_of(token) + 1u, start) - start;
}

fn first_of(token: u32) -> u32 {
    let start = origin();
    let end = position_of(token) + 1u;
    return max(select(max(end, p.window) - p.window, 0u, p.window == 0u), start) - start;
}

// The position of a key, as keys are counted here.
fn position_at(key: u32, slot: u32) -> u32 {
    return key + origin();
}

// The key that the tile of another begins with.
fn tile_of(key: u32) -> u32 {
    return key;
}

// The place in the chunk of the first key of a tile.
fn place_of(key: u32, token: u32) -> u32 {
    return key - p.position0;
}
