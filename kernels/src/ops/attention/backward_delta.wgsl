// What a query row's gradients share:  stats[t, h] = (lse[t, h], sum_d do[t, h, d] o[t, h, d])
// The second is D of FlashAttention-2, Dao 2023, arXiv:2307.08691.
//
// o, g   [rows, HD] f32: outputs and their gradients; a row is a head of a token
// lse    [rows] f32
// stats  [rows] of two f32
// peak   [1] bits of the largest magnitude in g, which are ordered as the numbers are; the order in which
//        atomics take a maximum cannot change it
//
// One workgroup of 256 sums PER rows, each by LANES invocations.

const WG: u32 = 256u;
const LANES: u32 = HD / 8u;
const PER: u32 = WG / LANES;

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

// The sum and the largest value of each invocation, then of each row.
var<workgroup> parts: array<vec2<f32>, WG>;
var<workgroup> most: array<f32, PER>;

fn largest(v: vec4<f32>) -> f32 {
    return max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let row0 = (wid.x + wid.y * p.grid_x) * PER;
    // Rows past the end repeat the last one.
    let at = min(row0 + lid / LANES, p.rows - 1u) * (HD / 4u) + lid % LANES;
    let x = g[at];
    let y = g[at + LANES];
    parts[lid] = vec2<f32>(dot(o[at], x) + dot(o[at + LANES], y), max(largest(x), largest(y)));
    workgroupBarrier();
    if (lid < PER) {
        var sum = 0.0;
        var high = 0.0;
        for (var i = 0u; i < LANES; i++) {
            let part = parts[lid * LANES + i];
            sum += part.x;
            high = max(high, part.y);
        }
        most[lid] = high;
        if (row0 + lid < p.rows) {
            stats[row0 + lid] = vec2<f32>(lse[row0 + lid], sum);
        }
    }
    workgroupBarrier();
    if (lid == 0u) {
        var high = 0.0;
        for (var i = 0u; i < PER; i++) {
            high = max(high, most[i]);
        }
        let bits = bitcast<u32>(high);
        if (bits > atomicLoad(&peak)) {
            atomicMax(&peak, bits);
        }
    }
}
