// Tokens on their way to a pool of blocks (layout/pages.wgsl), of which a dispatch writes one chunk. That of an idle
// slot goes nowhere.

const NOWHERE: u32 = 0xffffffffu;

fn place_of(token: u32) -> u32 {
    let position = position_of(token);
    let block = position / BLOCK;
    let place = block_at(slot_of(token), block) * BLOCK + position % BLOCK;
    return select(place, NOWHERE, position == NOWHERE || block % p.chunks != p.chunk);
}
