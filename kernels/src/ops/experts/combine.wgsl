// What a token's experts give together:  out[t, c] (+)= sum_j weights[t, j] y[position[t, j], c]
// in the order of j. Where choices are not SORTED, position[t, j] is t k + j, and where sums are PLAIN weights are 1.
//
// y         [choices, width] f32
// out       [tokens, width] f32, added to if p.add is 1
// position  [tokens, k] u32, see sort.wgsl
// weights   [tokens, k] f32
//
// One invocation computes four values.

struct Params {
    tokens: u32,
    token0: u32,  // of the first row of out
    used: u32,    // k
    quads: u32,   // width / 4
    grid_x: u32,
    add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
//@ if SORTED
@group(0) @binding(3) var<storage, read_write> position: array<u32>;
//@ end
//@ if WEIGHTED
@group(0) @binding(WEIGHTS) var<storage, read_write> weights: array<f32>;
//@ end

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n >= p.tokens * p.quads) {
        return;
    }
    let choice0 = (p.token0 + n / p.quads) * p.used;
    var sum = vec4<f32>();
    for (var j = 0u; j < p.used; j++) {
        var at = choice0 + j;
        //@ if SORTED
        at = position[at];
        //@ end
        var v = y[at * p.quads + n % p.quads];
        //@ if WEIGHTED
        v *= weights[choice0 + j];
        //@ end
        sum += v;
    }
    if (p.add != 0u) {
        sum += out[n];
    }
    out[n] = sum;
}
