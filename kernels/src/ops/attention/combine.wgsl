// Merges the parts of an attention:
//   o[h, :] = sum_p e^(m_p - m) a_p[h, :] / sum_p e^(m_p - m) l_p,   m = max_p m_p
//
// a   [parts, heads, head_dim] f32, unnormalised; heads counts those of all tokens
// ml  [parts, heads] (m_p, l_p)
// o   [heads, head_dim] f32
//
// One workgroup merges one head of one token.

struct Params {
    parts: u32,
    heads: u32,
    quads: u32, // head_dim / 4
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ml: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let head = wid.x + wid.y * p.grid_x;
    if (head >= p.heads) {
        return;
    }
    var m = -3.0e38;
    for (var i = 0u; i < p.parts; i++) {
        m = max(m, ml[i * p.heads + head].x);
    }
    for (var d = lid; d < p.quads; d += WG) {
        var sum = vec4<f32>();
        var l = 0.0;
        for (var i = 0u; i < p.parts; i++) {
            let at = i * p.heads + head;
            let e = exp(ml[at].x - m);
            sum += e * a[at * p.quads + d];
            l += e * ml[at].y;
        }
        o[head * p.quads + d] = sum / l;
    }
}
