// Merges the splits of an attention:
//   o[h, :] = sum_s w_s a_s[h, :] / sum_s w_s,   w_s = e^(lse_s - max lse)
//
// a    [splits, heads, head_dim] f32; heads counts those of all tokens
// lse  [splits, heads] f32
// o    [heads, head_dim] f32
//
// One workgroup merges one head of one token.

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

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let head = wid.x + wid.y * p.grid_x;
    if (head >= p.heads) {
        return;
    }
    var top = -3.0e38;
    for (var i = 0u; i < p.splits; i++) {
        top = max(top, lse[i * p.heads + head]);
    }
    for (var d = lid; d < p.quads; d += WG) {
        var sum = vec4<f32>();
        var weights = 0.0;
        for (var i = 0u; i < p.splits; i++) {
            let at = i * p.heads + head;
            let w = exp(lse[at] - top);
            sum += w * a[at * p.quads + d];
            weights += w;
        }
        o[head * p.quads + d] = sum / weights;
    }
}
