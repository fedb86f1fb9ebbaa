// Activations written in f16 (infinite where f16 does not hold them, see types/mod.rs), in tiles of 8 x 8, each tile's values one after the other, for the cooperative
// product that loads tiles straight into matrices.
alias Out = f16;
fn out(v: f32) -> Out {
    return f16(v);
}
fn place(row: u32, col: u32, cols: u32) -> u32 {
    return (row / 8u * (cols / 8u) + col / 8u) * 64u + row % 8u * 8u + col % 8u;
}
