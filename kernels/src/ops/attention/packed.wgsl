// Keys of a training batch of several sequences, one after the other: a token sees those of its own
// sequence up to itself. Positions are places in the batch. Keys and values are activations.
//
// spans  [tokens]: first token of the token's sequence, and one past its last

@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> k_cache: array<Word>;
@group(0) @binding(3) var<storage, read_write> v_cache: array<Word>;

fn position_of(token: u32) -> u32 {
    return p.token0 + token;
}

fn first_of(token: u32) -> u32 {
    return spans[p.token0 + token].x;
}
