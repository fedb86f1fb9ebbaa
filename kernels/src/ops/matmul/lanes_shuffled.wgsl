// lanes.wgsl with subgroups of SG, in which lid counts along subgroups: a barrier or two where a tree needs one
// for each doubling.

const GROUPS: u32 = WG / LANES;
const NEAR: u32 = min(LANES, SG);

var<workgroup> part: array<f32, WG * SUMS>;

// Adds up over each row of lanes: the first lane of a row then has its sums.
fn sum_lanes(lid: u32) {
    let lane = lid % LANES;
    for (var i = 0u; i < SUMS; i++) {
        var sum = part[i * WG + lid];
        for (var s = NEAR / 2u; s > 0u; s /= 2u) {
            sum += subgroupShuffleXor(sum, s);
        }
        if (lane % NEAR == 0u) {
            part[i * WG + lid] = sum;
        }
    }
    workgroupBarrier();
    if (LANES > SG) {
        if (lane == 0u) {
            for (var i = 0u; i < SUMS; i++) {
                var sum = part[i * WG + lid];
                for (var s = SG; s < LANES; s += SG) {
                    sum += part[i * WG + lid + s];
                }
                part[i * WG + lid] = sum;
            }
        }
        workgroupBarrier();
    }
}
