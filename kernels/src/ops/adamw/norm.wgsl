// Sums of squares, from which the global norm of a gradient follows:  s[g] = Σ x[i]²  over a workgroup's share
//
// x  [n] vec4<f32>: the gradient, or the sums of a first pass
// s  [workgroups] f32: the sums; of one workgroup with ROOT the norm itself
//
// A workgroup takes SHARE vec4, its invocations every WG-th of them, so that sums have one order.

struct Params {
    n: u32,
    grid_x: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> s: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * p.grid_x;
    let end = min(p.n, (group + 1u) * SHARE);
    var sum = 0.0;
    for (var i = group * SHARE + lid; i < end; i += WG) {
        let v = x[i];
        sum += dot(v, v);
    }
    let total = wg_sum(sum, lid);
    if (lid == 0u && group * SHARE < p.n) {
        s[p.first + group] = total;
    }
}
