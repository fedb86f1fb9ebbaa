// Activations written in f16 (infinite where f16 does not hold them, see types/mod.rs), for the cooperative product that would round them anyway.
alias Out = f16;
fn out(v: f32) -> Out {
    return f16(v);
}
fn place(row: u32, col: u32, cols: u32) -> u32 {
    return row * cols + col;
}
