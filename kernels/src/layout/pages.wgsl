// Where positions lie in a pool of blocks. Position n of a slot is in its block n / BLOCK, and the slot's table has the
// place of that block in the pool. Block b of every slot lies in chunk b mod p.chunks of the pool, and places count
// within a chunk.
//
// state  from word p.table on: [slots, p.context] places of blocks. What lies behind a slot's last block, or before its
//        window, may be any place that there is.

const BLOCK: u32 = 32u;

@group(0) @binding(1) var<storage, read> state: array<u32>;

// The place of a slot's block b.
fn block_at(slot: u32, b: u32) -> u32 {
    return state[p.table + slot * p.context + min(b, p.context - 1u)];
}
