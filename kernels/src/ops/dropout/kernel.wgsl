// Dropout:  y[i] = kept(i) ? x[i] / (1 - probability) : 0  (+ y[i])
// kept(i) is the same for the same seed, salt and i, so that the backward pass has the same mask.
//
// seed  [2] u32: of the run, and of the step
// x, y  [n] f32, the first of them value `first` of the tensor
//
// One invocation serves one value.

struct Params {
    n: u32,
    first: u32,
    grid_x: u32,
    salt: u32,
    dropped: u32,  // numbers below it, of 2^32, are dropped
    factor: f32,
    add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> seed: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (i >= p.n) {
        return;
    }
    let key = mixed(mixed(mixed(p.salt) ^ seed[0]) + seed[1]);
    let random = mixed(mixed(p.first + i) ^ key);
    var v = select(x[i] * p.factor, 0.0, random < p.dropped);
    if (p.add != 0u) {
        v += y[i];
    }
    y[i] = v;
}

// A bijection of u32 that flips half of the bits for any bit flipped: the finaliser of MurmurHash3
// (Appleby), after an odd constant so that 0 is no fixed point.
fn mixed(v: u32) -> u32 {
    var h = v + 0x9e3779b9u;
    h = (h ^ (h >> 16u)) * 0x85ebca6bu;
    h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
    return h ^ (h >> 16u);
}
