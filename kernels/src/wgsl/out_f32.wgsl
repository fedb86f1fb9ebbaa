// Activations written in f32.
alias Out = f32;
fn out(v: f32) -> Out {
    return v;
}
