// Merges the splits of an attention:
//   o[h, :] = sum_s w_s a_s[h, :] / sum_s w_s,   w_s = e^(lse_s - max lse)
//
// a    [splits, heads, head_dim] f32; heads counts those of all tokens
// lse  [splits, heads] f32
// o    [heads, head_dim] f32
//
// One workgroup of 128 merges one head of one token: as many invocations as a head has vec4 share a split,
// so that the loads of several splits are on their way together.

const WG: u32 = 128u;

struct Params {
    splits: u32,
    heads: u32,
    quads: u32, // head_dim / 4
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;

var<workgroup> sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let head = min(wid.x + wid.y * p.grid_x, p.heads - 1u);
    let several = WG / p.quads; // splits at a time
    let mine = lid / p.quads;
    let d = lid % p.quads;
    var top = -3.0e38;
    for (var i = lid; i < p.splits; i += WG) {
        top = max(top, lse[i * p.heads + head]);
    }
    var sum = vec4<f32>();
    let high = wg_max(top, lid);
    var weights = 0.0;
    for (var i = lid; i < p.splits; i += WG) {
        weights += exp(lse[i * p.heads + head] - high);
    }
    if (mine < several) {
        for (var i = mine; i < p.splits; i += several) {
            let at = i * p.heads + head;
            sum += exp(lse[at] - high) * a[at * p.quads + d];
        }
    }
    sums[lid] = sum;
    // Ends the writes to `sums` as well.
    let total = wg_sum(weights, lid);
    if (lid < p.quads) {
        for (var s = 1u; s < several; s++) {
            sum += sums[s * p.quads + lid];
        }
        o[head * p.quads + d] = sum / total;
    }
}
