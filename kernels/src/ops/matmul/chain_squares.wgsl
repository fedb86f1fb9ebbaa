// The squares of each token, summed by each row of lanes for itself, as the last of its SUMS.

// After the walk: its loads ahead of the walk's cost registers, and by them more than they gained.
fn sum_squares(lid: u32) {
    for (var t = 0u; t < TOKENS; t++) {
        var sum = 0.0;
        for (var i = lid % LANES; i < p.units / 4u; i += LANES) {
            sum += squares_at(t, i);
        }
        put_sum(ROWS * TOKENS + t, lid, sum);
    }
}

fn squares_of(t: u32, first_lane: u32) -> f32 {
    return sum_of(ROWS * TOKENS + t, first_lane);
}
