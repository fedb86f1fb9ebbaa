// Gradient of the sum in combine.wgsl, on the inner side of the last product: with g the gradient of h before weights,
//   dw[t, j] = sum_c g[position[t, j], c] h[position[t, j], c],   g[position[t, j], :] *= weights[t, j]
//
// h         [choices, width] f32: what the last product read
// g         [choices, width] f32: the token's gradient times that product's matrix; becomes the gradient of h
// position  [tokens, k] u32, see sort.wgsl
// weights   [tokens, k] f32
// dw        [tokens, k] f32
//
// One workgroup computes one choice.

struct Params {
    choices: u32,
    width: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> h: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> position: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> dw: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = wid.x + wid.y * p.grid_x;
    // Workgroups past the end do nothing to no value.
    let inside = n < p.choices;
    let choice = min(n, p.choices - 1u);
    let at = position[choice] * p.width;
    let w = weights[choice];
    var sum = 0.0;
    for (var c = select(p.width, lid, inside); c < p.width; c += WG) {
        let v = g[at + c];
        sum = fma(v, h[at + c], sum);
        g[at + c] = v * w;
    }
    let total = wg_sum(sum, lid);
    if (inside && lid == 0u) {
        dw[choice] = total;
    }
}
