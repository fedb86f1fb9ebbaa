// Activations written in f16, for the cooperative product that would round them anyway.
alias Out = f16;
fn out(v: f32) -> Out {
    return f16(clamp(v, -65504.0, 65504.0));
}
fn place(row: u32, col: u32, cols: u32) -> u32 {
    return row * cols + col;
}
