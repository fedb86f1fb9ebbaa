// What the two sweeps of the loss share. A dispatch has some rows, or a window of one row: `columns`
// from column0 on, the first of which is value `first` of what is bound.

const FIRST: u32 = 1u;        // no window came before this one
const IGNORED: u32 = ~0u;     // a label: no loss

struct Params {
    rows: u32,
    columns: u32,
    stride: u32,   // values of a row
    first: u32,
    column0: u32,
    row0: u32,     // in labels and stats
    grid_x: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
