//@ param ARRAY
// Four values of $ARRAY from the one at `at` on, of which `left` are there: 0 for the others.
alias cell_$ARRAY = f32;
fn $ARRAY_at(at: u32, left: u32) -> vec4<f32> {
    var v = vec4<f32>();
    for (var i = 0u; i < min(left, 4u); i++) {
        v[i] = $ARRAY[at + i];
    }
    return v;
}
