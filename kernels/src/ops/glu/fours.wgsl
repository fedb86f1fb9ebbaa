// A gated linear unit into tiles:  y[t, i] = act(x[t, i]) x[t, width + i]
//
// What act is, a fragment says (activation/*.wgsl).
// x  [tokens, 2 width] f32: gate, then up
// y  [tokens, width] f16 in tiles
//
// One invocation computes four values of a token, which lie side by side in a tile as well.

struct Params {
    tokens: u32,
    width: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<Out>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    let fours = p.width / 4u;
    if (n < p.tokens * fours) {
        let t = n / fours;
        let i = n % fours;
        let g = x[t * 2u * fours + i];
        let u = x[(t * 2u + 1u) * fours + i];
        let v = vec4<f32>(act(g.x), act(g.y), act(g.z), act(g.w)) * u;
        y[place(t, i * 4u, p.width) / 4u] = vec4<Out>(out(v.x), out(v.y), out(v.z), out(v.w));
    }
}
