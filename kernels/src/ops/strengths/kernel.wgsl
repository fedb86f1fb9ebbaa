// What adapters hold between their products, each at its row's strength, in place:
//   t[row, r] *= strengths[first + row * step, owners[r]]
//
// t          [rows, rank] f32
// strengths  [all, adapters] f32
// owners     [rank] u32: the adapter that each rank is of
//
// One invocation computes one value.

struct Params {
    values: u32,
    rank: u32,
    adapters: u32,
    first: u32,
    step: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;
@group(0) @binding(2) var<storage, read> strengths: array<f32>;
@group(0) @binding(3) var<storage, read> owners: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i < p.values) {
        let row = p.first + i / p.rank * p.step;
        t[i] *= strengths[row * p.adapters + owners[i % p.rank]];
    }
}
