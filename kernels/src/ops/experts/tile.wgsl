// What a tile of a product by experts is about: positions of sort.wgsl that have one expert, in place of tokens in
// order, and the rows of that expert in place of those of the slab. In its parameters, row0 is the first row of the
// slab in the matrices of all experts one after the other, rows are those of the slab, y_stride those of an expert.
//
// tiles   [tiles, 4] u32, see sort.wgsl
// tokens  [positions] u32, see sort.wgsl

struct Tile {
    first: u32,  // position
    end: u32,    // one past the last; no position where the expert is in another slab
    row0: u32,   // row of the slab where the expert's begin
}

@group(0) @binding(TILES) var<storage, read_write> tiles: array<vec4<u32>>;
//@ if GATHERED
@group(0) @binding(TOKENS) var<storage, read_write> tokens: array<u32>;
//@ end

var<workgroup> tile: vec4<u32>;

fn tile_of(group: u32, lid: u32) -> Tile {
    if (lid == 0u) {
        tile = tiles[group];
    }
    let t = workgroupUniformLoad(&tile);
    let row0 = t.x * p.y_stride - p.row0;
    return Tile(t.y, select(t.y, t.z, row0 < p.rows), row0);
}

// The row of the left side that a position has.
fn left_row(position: u32) -> u32 {
    //@ if GATHERED
    return tokens[position];
    //@ else
    return position;
    //@ end
}
