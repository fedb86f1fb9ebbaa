// An input that is what the product takes.
fn input_scale(first_lane: u32) -> f32 {
    return 1.0;
}
