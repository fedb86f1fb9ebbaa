// Keys of a training batch of several sequences, one after the other: a token sees those of its own
// sequence up to itself, or the last `window`. Positions are places in the batch. Keys and values are activations.
//
// spans  [tokens]: first token of the token's sequence, and one past its last

@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read_write> v_cache: array<Word>;

// One past the last key that a token sees, and the first.
fn end_of(token: u32) -> u32 {
    return p.token0 + token + 1u;
}

fn first_of(token: u32) -> u32 {
    let end = end_of(token);
    return max(spans[p.token0 + token].x, select(max(end, p.window) - p.window, 0u, p.window == 0u));
}

// The key that the tile of another begins with.
fn tile_of(key: u32) -> u32 {
    return key;
}

// The place in the chunk of the first key of a tile.
fn place_of(key: u32, token: u32) -> u32 {
    return key - p.position0;
}
