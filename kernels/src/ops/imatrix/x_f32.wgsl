// Activations in f32.
alias Word = f32;
fn value(i: u32) -> f32 {
    return x[i];
}
