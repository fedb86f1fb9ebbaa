// Choices by expert: where in the order of experts, and of choices within an expert, each choice comes, and which tiles of
// SIDE positions have a single expert.
//
// ids       [n] u32: the expert of each choice; a token's k choices follow each other
// tokens    [n] u32: the token at each position of that order
// position  [n] u32: where each choice comes in it
// tiles     [tiles, 4] u32: expert, first position, one past the last; past the last tile 0
//
// One workgroup places the choices of one expert. Nothing depends on the order of atomics: they count.

struct Params {
    choices: u32,
    experts: u32,
    used: u32,   // k
    side: u32,
    tiles: u32,  // there is room for
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> position: array<u32>;
@group(0) @binding(4) var<storage, read_write> tiles: array<vec4<u32>>;

var<workgroup> counts: array<atomic<u32>, MAX_EXPERTS>;
var<workgroup> sums: array<u32, WG>;

// The sum over the invocations before this one and, from the last of sums, over all.
fn sum_before(v: u32, lid: u32) -> u32 {
    sums[lid] = v;
    workgroupBarrier();
    for (var s = 1u; s < WG; s *= 2u) {
        let other = select(0u, sums[max(lid, s) - s], lid >= s);
        workgroupBarrier();
        sums[lid] += other;
        workgroupBarrier();
    }
    return sums[lid] - v;
}

fn sum_of_all(v: u32, lid: u32) -> u32 {
    sum_before(v, lid);
    let total = sums[WG - 1u];
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let expert = wid.x + wid.y * p.grid_x;
    if (expert >= p.experts) {
        return;
    }
    for (var e = lid; e < MAX_EXPERTS; e += WG) {
        atomicStore(&counts[e], 0u);
    }
    workgroupBarrier();
    for (var i = lid; i < p.choices; i += WG) {
        atomicAdd(&counts[ids[i]], 1u);
    }
    workgroupBarrier();
    // Each invocation has a run of choices, so that they keep their order.
    let run = (p.choices + WG - 1u) / WG;
    let begin = min(lid * run, p.choices);
    let to = min(begin + run, p.choices);
    var mine = 0u;
    for (var i = begin; i < to; i++) {
        mine += select(0u, 1u, ids[i] == expert);
    }
    var choices_before = 0u;
    var tiles_before = 0u;
    for (var e = lid; e < expert; e += WG) {
        let count = atomicLoad(&counts[e]);
        choices_before += count;
        tiles_before += (count + p.side - 1u) / p.side;
    }
    let start = sum_of_all(choices_before, lid);
    let tile0 = sum_of_all(tiles_before, lid);
    var at = start + sum_before(mine, lid);
    for (var i = begin; i < to; i++) {
        if (ids[i] == expert) {
            tokens[at] = i / p.used;
            position[i] = at;
            at++;
        }
    }
    let count = atomicLoad(&counts[expert]);
    let own = (count + p.side - 1u) / p.side;
    for (var t = lid; t < own; t += WG) {
        let first = t * p.side;
        tiles[tile0 + t] = vec4<u32>(expert, start + first, start + min(first + p.side, count), 0u);
    }
    if (expert == p.experts - 1u) {
        for (var t = tile0 + own + lid; t < p.tiles; t += WG) {
            tiles[t] = vec4<u32>();
        }
    }
}
