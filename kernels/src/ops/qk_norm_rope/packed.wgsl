// Tokens of a training batch of several sequences, one after the other: positions count from the start of
// a sequence, and keys lie as the tokens do.
//
// spans  [tokens]: first token of the token's sequence, and one past its last

@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;

fn position_of(token: u32) -> u32 {
    return p.token0 + token - spans[p.token0 + token].x;
}

fn place_of(token: u32) -> u32 {
    return p.token0 + token;
}
