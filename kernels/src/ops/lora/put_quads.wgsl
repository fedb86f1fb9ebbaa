//@ param ARRAY
// Four values of $ARRAY from the one at `at` on, a multiple of 4; added to what is there if `add`.
fn put_$ARRAY(at: u32, left: u32, v: vec4<f32>, add: bool) {
    var sum = v;
    if (add) {
        sum += $ARRAY[at / 4u];
    }
    $ARRAY[at / 4u] = sum;
}
