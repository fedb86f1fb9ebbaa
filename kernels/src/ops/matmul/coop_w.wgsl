// How the kernels with matrices find their tile of w in memory.

// The item of w at (row, i) of the tile; past an edge, the last one.
fn w_item(first: u32, k: u32, row: u32, i: u32) -> u32 {
    let items = p.units / PER_ITEM;
    //@ if FORWARD
    let r = first + row;
    let c = k / (16u * PER_ITEM) + i;
    //@ else
    let r = k + row;
    let c = first / (16u * PER_ITEM) + i;
    //@ end
    //@ if ALIGNED
    return r * items + c;
    //@ else
    return min(r, p.rows - 1u) * items + min(c, items - 1u);
    //@ end
}
