// lanes.wgsl with subgroups of SG, in which lid counts along subgroups: one barrier where a tree needs one for each
// doubling, and a place in workgroup memory for each subgroup's part of a row where a tree has one for each lane's.

const GROUPS: u32 = WG / LANES;
const NEAR: u32 = min(LANES, SG);

var<workgroup> part: array<f32, WG / NEAR * SUMS>;

fn put_sum(i: u32, lid: u32, x: f32) {
    var sum = x;
    for (var s = NEAR / 2u; s > 0u; s /= 2u) {
        sum += subgroupShuffleXor(sum, s);
    }
    if (lid % NEAR == 0u) {
        part[i * (WG / NEAR) + lid / NEAR] = sum;
    }
}

fn sum_lanes(lid: u32) {
    workgroupBarrier();
}

// Sum i of the row of lanes that begins with this one.
fn sum_of(i: u32, first_lane: u32) -> f32 {
    let at = i * (WG / NEAR) + first_lane / NEAR;
    var sum = part[at];
    for (var s = 1u; s < LANES / NEAR; s++) {
        sum += part[at + s];
    }
    return sum;
}
