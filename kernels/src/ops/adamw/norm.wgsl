// Sums of squares, from which the global norm of a gradient follows:  s[g] = Σ x[i]²  over a workgroup's share
// A parameter that is not finite makes its sum so, since what it is multiplied with may hide it from the gradient.
//
// x  [n] vec4<f32>: the gradient
// w  [n] vec4<f32>: the parameters
// s  [workgroups] f32
//
// A workgroup takes SHARE vec4, its invocations every WG-th of them, so that sums have one order.

// All ones: infinite, or not a number.
const EXPONENT: u32 = 0x7f800000u;

struct Params {
    n: u32,
    grid_x: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> s: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * p.grid_x;
    let end = min(p.n, (group + 1u) * SHARE);
    var sum = 0.0;
    for (var i = group * SHARE + lid; i < end; i += WG) {
        let v = x[i];
        sum += dot(v, v);
        let e = bitcast<vec4<u32>>(w[i]) & vec4<u32>(EXPONENT);
        let largest = max(max(e.x, e.y), max(e.z, e.w));
        if (largest == EXPONENT) {
            sum += bitcast<f32>(largest);
        }
    }
    let total = wg_sum(sum, lid);
    if (lid == 0u && group * SHARE < p.n) {
        s[p.first + group] = total;
    }
}
