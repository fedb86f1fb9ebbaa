// The end of a matvec's main loop: each invocation hands in what it has summed for each of its lanes' SUMS.

const GROUPS: u32 = WG / LANES;

// What invocation n has for sum i is at i * WG + n.
var<workgroup> part: array<f32, WG * SUMS>;

fn put_sum(i: u32, lid: u32, x: f32) {
    part[i * WG + lid] = x;
}

// Adds up over each row of lanes.
fn sum_lanes(lid: u32) {
    let lane = lid % LANES;
    workgroupBarrier();
    for (var s = LANES / 2u; s > 0u; s /= 2u) {
        if (lane < s) {
            for (var i = 0u; i < SUMS; i++) {
                part[i * WG + lid] += part[i * WG + lid + s];
            }
        }
        workgroupBarrier();
    }
}

// Sum i of the row of lanes that begins with this one.
fn sum_of(i: u32, first_lane: u32) -> f32 {
    return part[i * WG + first_lane];
}
