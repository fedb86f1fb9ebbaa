//@ param ARRAY
// Four values of $ARRAY, which holds f16, from the one at `at` on, a multiple of 4.
alias cell_$ARRAY = vec2<u32>;
fn $ARRAY_at(at: u32, left: u32) -> vec4<f32> {
    let v = $ARRAY[at / 4u];
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}
