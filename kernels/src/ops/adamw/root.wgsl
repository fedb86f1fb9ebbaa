// The norm from its sums of squares:  norm = sqrt(Σ s[i])
//
// s     [n] f32
// norm  [1] f32
//
// One workgroup.

struct Params {
    n: u32,
    grid_x: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32) {
    var sum = 0.0;
    for (var i = lid; i < p.n; i += WG) {
        sum += s[i];
    }
    let total = wg_sum(sum, lid);
    if (lid == 0u) {
        norm[0] = sqrt(total);
    }
}
