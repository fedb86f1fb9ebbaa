// Gradient of kernel.wgsl with respect to the logits, the choice being what it was:
//   dx[e] = scale q[e] (g[e] - sum_f g[f] q[f]),   g[ids[t, i]] = dw[t, i], 0 elsewhere
// where q is the softmax over all experts, or where weights are renormalised over the chosen ones, 0 elsewhere.
//
// logits   [tokens, experts] f32
// ids      [tokens, k] u32
// dw       [tokens, k] f32
// dlogits  [tokens, experts] f32
//
// One workgroup computes one token.

@group(0) @binding(3) var<storage, read_write> dw: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;

var<workgroup> g: array<f32, MAX_EXPERTS>;
// 1 for the chosen ones.
var<workgroup> taken: array<f32, MAX_EXPERTS>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let t = wid.x + wid.y * p.grid_x;
    // Workgroups past the end do the last token's work, and store nothing.
    let token = min(t, p.tokens - 1u);
    for (var e = lid; e < p.experts; e += WG) {
        g[e] = 0.0;
        taken[e] = 0.0;
    }
    // The barriers in it are those of g as well.
    let largest = load_logits(token, lid);
    for (var i = lid; i < p.used; i += WG) {
        let e = ids[token * p.used + i];
        g[e] = dw[token * p.used + i];
        taken[e] = 1.0;
    }
    workgroupBarrier();
    var total = 0.0;
    var product = 0.0;
    for (var e = lid; e < p.experts; e += WG) {
        let counts = select(1.0, taken[e], p.renormalise != 0u);
        let v = counts * exp(x[e] - largest);
        total += v;
        product += v * g[e];
    }
    let sum = wg_sum(total, lid);
    let mean = wg_sum(product, lid) / sum;
    if (t < p.tokens) {
        for (var e = lid; e < p.experts; e += WG) {
            let counts = select(1.0, taken[e], p.renormalise != 0u);
            dlogits[t * p.experts + e] = p.scale * counts * exp(x[e] - largest) / sum * (g[e] - mean);
        }
    }
}
