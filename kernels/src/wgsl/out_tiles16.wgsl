// Activations written in f16 (infinite where f16 does not hold them, see types/mod.rs), in tiles of 16 x 16, each tile's values one after the other, for the cooperative
// product that loads tiles straight into matrices.
alias Out = f16;
fn out(v: f32) -> Out {
    return f16(v);
}
fn place(row: u32, col: u32, cols: u32) -> u32 {
    return (row / 16u * (cols / 16u) + col / 16u) * 256u + row % 16u * 16u + col % 16u;
}
