// Keys of slots in a pool of blocks (layout/pages.wgsl). A token sees all positions of its slot up to its own, or the
// last `window`. A dispatch reads one chunk of the pool: what it calls keys are the positions of the slot that lie
// there, counted in their order, so that a tile of BLOCK keys is one block.

@group(0) @binding(2) var<storage, read> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read> v_cache: array<Word>;

// How many of a slot's first n positions lie in this chunk.
fn lying_here(n: u32) -> u32 {
    let whole = n / BLOCK;
    let before = (whole + p.chunks - 1u - p.chunk) / p.chunks;
    return before * BLOCK + select(0u, n % BLOCK, whole % p.chunks == p.chunk);
}

// One past the last key that a token sees, and the first; both 0 for an idle slot.
fn end_of(token: u32) -> u32 {
    return lying_here(position_of(token) + 1u);
}

fn first_of(token: u32) -> u32 {
    let end = position_of(token) + 1u;
    return lying_here(select(max(end, p.window) - p.window, 0u, p.window == 0u));
}

// The key that the tile of another begins with.
fn tile_of(key: u32) -> u32 {
    return key / BLOCK * BLOCK;
}

// The place in the chunk of a key.
fn place_of(key: u32, token: u32) -> u32 {
    return block_at(slot_of(token), key / BLOCK * p.chunks + p.chunk) * BLOCK + key % BLOCK;
}

// The position of a key.
fn position_at(key: u32, token: u32) -> u32 {
    return (key / BLOCK * p.chunks + p.chunk) * BLOCK + key % BLOCK;
}
