//@ param ARRAY
// Four values of $ARRAY from the one at `at` on, a multiple of 4.
alias cell_$ARRAY = vec4<f32>;
fn $ARRAY_at(at: u32, left: u32) -> vec4<f32> {
    return $ARRAY[at / 4u];
}
