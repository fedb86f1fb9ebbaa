// What the router and its gradient share: parameters, and the largest of a token's logits.

struct Params {
    tokens: u32,
    experts: u32,
    used: u32,         // k
    renormalise: u32,  // 1: the k weights of a token add up to scale
    grid_x: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;

var<workgroup> x: array<f32, MAX_EXPERTS>;

// Puts the logits of token t into x, the same in every invocation afterwards, and gives the largest.
fn load_logits(t: u32, lid: u32) -> f32 {
    var largest = -3.4028234e38;
    for (var e = lid; e < p.experts; e += WG) {
        x[e] = logits[t * p.experts + e];
        largest = max(largest, x[e]);
    }
    return wg_max(largest, lid);
}
