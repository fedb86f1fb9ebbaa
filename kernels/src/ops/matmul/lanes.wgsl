// The end of a matvec's main loop: part[i * WG + invocation] holds what each invocation has summed for sum
// i of its lanes' SUMS.

const GROUPS: u32 = WG / LANES;

var<workgroup> part: array<f32, WG * SUMS>;

// Adds up over each row of lanes: the first lane of a row then has its sums.
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
