// Rotary position embedding, in place:
//   (a, b) -> (a cos θ - b sin θ, a sin θ + b cos θ) * mscale,   θ = position * frequency[i]
// Su et al. 2021, arXiv:2104.09864. Pair i is (2i, 2i+1) when ADJACENT is 1, else (i, i + pairs).
//
// x      [tokens, heads, head_dim] f32; the first 2 * pairs of a head are rotated
// state  word 0: position of the batch's first token
// table  [128 + blocks, pairs] of (cos, sin): rows 0..128 for angles of positions 0..127, the rest for
//        128 times 0, 1, 2, ...: two exact tables and one complex product reach any position without
//        the sine of a large argument, which no GPU promises to compute.
//
// One invocation rotates one pair.

struct Params {
    token0: u32,   // token of the batch that x begins with
    tokens: u32,
    heads: u32,
    half_dim: u32, // head_dim / 2
    pairs: u32,
    grid_x: u32,
    mscale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> state: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n >= p.tokens * p.heads * p.pairs) {
        return;
    }
    let i = n % p.pairs;
    let head = n / p.pairs;
    let position = state[0] + p.token0 + head / p.heads;
    let near = table[(position & 127u) * p.pairs + i];
    let far = table[(128u + (position >> 7u)) * p.pairs + i];
    let c = (near.x * far.x - near.y * far.y) * p.mscale;
    let s = (near.y * far.x + near.x * far.y) * p.mscale;
    let base = head * 2u * p.half_dim;
    var at = base + i;
    var step = p.pairs;
    if (ADJACENT == 1u) {
        at = base + 2u * i;
        step = 1u;
    }
    let a = x[at];
    let b = x[at + step];
    x[at] = a * c - b * s;
    x[at + step] = a * s + b * c;
}
