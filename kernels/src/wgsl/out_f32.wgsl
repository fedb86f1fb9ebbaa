// Activations written in f32.
alias Out = f32;
fn out(v: f32) -> Out {
    return v;
}
fn place(row: u32, col: u32, cols: u32) -> u32 {
    return row * cols + col;
}
