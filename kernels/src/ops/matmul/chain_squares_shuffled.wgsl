// chain_squares.wgsl with subgroups of SG: one of them sums a token's squares for the whole workgroup, since with eight
// tokens the sums of each row of lanes were half of a kernel's instructions. The subgroup's number comes as the device
// gives it: of one worked out from that of the invocation, the driver would not know that a subgroup shares it.

var<workgroup> all_squares: array<f32, TOKENS>;

// After the walk: its loads ahead of the walk's cost registers, and by them more than they gained.
fn sum_squares(sid: u32, lane: u32) {
    for (var t = sid; t < TOKENS; t += WG / SG) {
        var sum = 0.0;
        for (var i = lane; i < p.units / 4u; i += SG) {
            sum += squares_at(t, i);
        }
        for (var s = SG / 2u; s > 0u; s /= 2u) {
            sum += subgroupShuffleXor(sum, s);
        }
        if (lane == 0u) {
            all_squares[t] = sum;
        }
    }
}

fn squares_of(t: u32, first_lane: u32) -> f32 {
    return all_squares[t];
}
