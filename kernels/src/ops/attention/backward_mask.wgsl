// Which keys a token of a training batch sees, as packed.wgsl has it, and which tokens see a key.

fn first_of(token: u32) -> u32 {
    let end = token + 1u;
    return max(spans[token].x, select(max(end, p.window) - p.window, 0u, p.window == 0u));
}

// One past the last token that sees a key.
fn seen_until(key: u32) -> u32 {
    let end = spans[key].y;
    return select(min(end, key + p.window), end, p.window == 0u);
}
