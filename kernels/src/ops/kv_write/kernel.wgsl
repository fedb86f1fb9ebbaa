// KV cache write:  cache[position, :] = x[t, :] for keys and values, in the cache's type
//
// k, v              [tokens, width] f32, width = kv_heads * head_dim
// k_cache, v_cache  one chunk of the cache: [positions, width], stored by the fragment
// state             word 0: position of the batch's first token
//
// One invocation stores one pair of each. A token whose position lies outside the chunk is skipped:
// the chunks of a split cache are dispatched one after the other.

struct Params {
    token0: u32,    // token of the batch that k and v begin with
    tokens: u32,
    pairs: u32,     // width / 2
    position0: u32, // first position of the chunk
    positions: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> state: array<u32>;
@group(0) @binding(2) var<storage, read_write> k: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> k_cache: array<u32>;
@group(0) @binding(5) var<storage, read_write> v_cache: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    if (n >= p.tokens * p.pairs) {
        return;
    }
    let position = state[0] + p.token0 + n / p.pairs;
    if (position < p.position0 || position - p.position0 >= p.positions) {
        return;
    }
    let at = (position - p.position0) * p.pairs + n % p.pairs;
    store(at, k[n], v[n]);
}
