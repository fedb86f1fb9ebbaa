// backward.wgsl with the gradients of gate and up in tiles, for the product in front of the unit:
//   dx[t, i] = scale dy[t, i] u act'(g),   dx[t, width + i] = scale dy[t, i] act(g)
//
// x   [tokens, 2 width] f32: gate, then up
// dy  [tokens, width] f32, then y
// dx  [tokens, 2 width] f16 in tiles
//
// One invocation computes what belongs to four values of a token, which lie side by side in a tile as well.

struct Params {
    tokens: u32,
    width: u32,
    grid_x: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<Out>>;

fn put(t: u32, i: u32, v: vec4<f32>) {
    let s = p.scale * v;
    dx[place(t, i, 2u * p.width) / 4u] = vec4<Out>(out(s.x), out(s.y), out(s.z), out(s.w));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let n = (wid.x + wid.y * p.grid_x) * WG + lid;
    let fours = p.width / 4u;
    if (n < p.tokens * fours) {
        let t = n / fours;
        let i = n % fours;
        let g = x[t * 2u * fours + i];
        let u = x[(t * 2u + 1u) * fours + i];
        let d = dy[n];
        // A row for each of the four values: act of its gate, and the slope there.
        let gates = transpose(mat4x2<f32>(
            act_and_slope(g.x), act_and_slope(g.y), act_and_slope(g.z), act_and_slope(g.w)));
        put(t, i * 4u, d * u * gates[1]);
        put(t, p.width + i * 4u, d * gates[0]);
        dy[n] = gates[0] * u;
    }
}
