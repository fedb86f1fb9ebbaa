// Router of a mixture of experts: for each token the k experts of the largest probabilities, and their weights.
//   p[e] = exp(x[e]) / sum_f exp(x[f])
//   ids[t, :] = the k experts of the largest p, the largest first; of equal ones the lowest number first
//   weights[t, i] = scale p[ids[t, i]]  (/ sum_j p[ids[t, j]])
//
// logits   [tokens, experts] f32
// ids      [tokens, k] u32
// weights  [tokens, k] f32
//
// One workgroup routes one token. An expert's place is the number of experts before it, so that nothing is sorted.

@group(0) @binding(3) var<storage, read_write> weights: array<f32>;

// The logits as numbers of the same order, whatever they are: every expert has a place of its own.
var<workgroup> keys: array<u32, MAX_EXPERTS>;
// exp(x - largest) of the chosen ones, in their order.
var<workgroup> chosen: array<f32, MAX_EXPERTS>;

fn key_of(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    // Both zeros are the same number.
    if ((bits & 0x7fffffffu) == 0u) {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let t = wid.x + wid.y * p.grid_x;
    // Workgroups past the end do the last token's work, and store nothing.
    let token = min(t, p.tokens - 1u);
    let largest = load_logits(token, lid);
    var sum = 0.0;
    for (var e = lid; e < p.experts; e += WG) {
        keys[e] = key_of(x[e]);
        sum += exp(x[e] - largest);
    }
    // The barriers in it are those of keys as well.
    var total = wg_sum(sum, lid);
    for (var e = lid; e < p.experts; e += WG) {
        let key = keys[e];
        var before = 0u;
        for (var f = 0u; f < e; f++) {
            before += select(0u, 1u, keys[f] >= key);
        }
        for (var f = e + 1u; f < p.experts; f++) {
            before += select(0u, 1u, keys[f] > key);
        }
        if (before < p.used) {
            chosen[before] = exp(x[e] - largest);
            if (t < p.tokens) {
                ids[t * p.used + before] = e;
            }
        }
    }
    workgroupBarrier();
    // Their sum is at least k / experts of the total, so that no quotient is too large.
    if (p.renormalise != 0u) {
        total = 0.0;
        for (var i = 0u; i < p.used; i++) {
            total += chosen[i];
        }
    }
    if (t < p.tokens) {
        for (var i = lid; i < p.used; i += WG) {
            weights[t * p.used + i] = p.scale * chosen[i] / total;
        }
    }
}
