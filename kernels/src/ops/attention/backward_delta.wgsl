// What a query row's gradients share:  stats[t, h] = (lse[t, h], sum_d do[t, h, d] o[t, h, d])
// The second is D of FlashAttention-2, Dao 2023, arXiv:2307.08691.
//
// o, g   [rows, HD] f32: outputs and their gradients; a row is a head of a token
// lse    [rows] f32
// stats  [rows] of two f32
// peak   [1] bits of the largest magnitude in g, which are ordered as the numbers are; the order in which
//        atomics take a maximum cannot change it
//
// One workgroup of 64 sums one row.

const WG: u32 = 64u;

struct Params {
    rows: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> peak: atomic<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    var sum = 0.0;
    var largest = 0.0;
    for (var i = lid; i < HD / 4u; i += WG) {
        let x = g[r * (HD / 4u) + i];
        sum += dot(o[r * (HD / 4u) + i], x);
        largest = max(largest, max(max(abs(x.x), abs(x.y)), max(abs(x.z), abs(x.w))));
    }
    let total = wg_sum(sum, lid);
    let most = bitcast<u32>(wg_max(largest, lid));
    if (lid == 0u) {
        stats[r] = vec2<f32>(lse[r], total);
        if (most > atomicLoad(&peak)) {
            atomicMax(&peak, most);
        }
    }
}
