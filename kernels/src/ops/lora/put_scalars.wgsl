//@ param ARRAY
// The first `left` of four values of $ARRAY from the one at `at` on; added to what is there if `add`.
fn put_$ARRAY(at: u32, left: u32, v: vec4<f32>, add: bool) {
    for (var i = 0u; i < min(left, 4u); i++) {
        var sum = v[i];
        if (add) {
            sum += $ARRAY[at + i];
        }
        $ARRAY[at + i] = sum;
    }
}
