// Merges the splits of an attention:
//   o[h, :] = sum_s w_s a_s[h, :] / sum_s w_s,   w_s = e^(lse_s - max lse)
//
// a    [splits, heads, head_dim] f32; heads counts those of all tokens
// lse  [splits, heads] f32
// o    [heads, head_dim] f32
//
// One workgroup of 256 merges one head of one token, as many splits at a time as it has times the vec4 of a
// head. A dispatch so small lives by the latency of its loads: they wait for nothing but the split before.

const WG: u32 = 256u;
const LOWEST: f32 = -3.0e38;

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
var<workgroup> tops: array<f32, WG>;
var<workgroup> weights: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let head = wid.x + wid.y * p.grid_x;
    let several = WG / p.quads; // splits at a time
    let mine = lid / p.quads;
    let d = lid % p.quads;
    var sum = vec4<f32>();
    var top = LOWEST;
    var weight = 0.0;
    if (head < p.heads && mine < several) {
        for (var i = mine; i < p.splits; i += several) {
            let at = i * p.heads + head;
            let s = lse[at];
            let x = a[at * p.quads + d];
            let higher = max(top, s);
            let decay = exp(top - higher);
            let w = exp(s - higher);
            sum = sum * decay + w * x;
            weight = weight * decay + w;
            top = higher;
        }
    }
    sums[lid] = sum;
    if (d == 0u) {
        tops[mine] = top;
        weights[mine] = weight;
    }
    workgroupBarrier();
    if (head < p.heads && lid < p.quads) {
        var high = LOWEST;
        for (var s = 0u; s < several; s++) {
            high = max(high, tops[s]);
        }
        sum = vec4<f32>();
        weight = 0.0;
        for (var s = 0u; s < several; s++) {
            let w = exp(tops[s] - high);
            sum += w * sums[s * p.quads + lid];
            weight += w * weights[s];
        }
        o[head * p.quads + lid] = sum / weight;
    }
}
