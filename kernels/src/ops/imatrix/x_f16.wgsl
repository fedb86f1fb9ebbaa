// Activations in f16, two to a word.
alias Word = u32;
fn value(i: u32) -> f32 {
    return unpack2x16float(x[i / 2u])[i & 1u];
}
