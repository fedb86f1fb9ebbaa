// Row gather (token embedding):  y[t, :] = scale w[ids[t], :]  (+ y[t, :])
//
// w    one slab of a quantised [rows, cols] matrix, bound twice (w4, w1)
// ids  [tokens] u32
// y    [tokens, cols] f32
//
// One workgroup writes one token's row, 16 columns an invocation at a time, and only if the row lies
// in this slab: the slabs of a split matrix are dispatched one after the other.

struct Params {
    planes: vec4<u32>,
    row0: u32,   // first row of the slab
    rows: u32,   // rows in the slab
    units: u32,  // cols / 16
    tokens: u32,
    grid_x: u32,
    scale: f32,
    add: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> w1: array<u32>;
@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let t = wid.x + wid.y * p.grid_x;
    if (t >= p.tokens) {
        return;
    }
    let id = ids[t];
    if (id < p.row0 || id - p.row0 >= p.rows) {
        return;
    }
    let row = (id - p.row0) * p.units;
    for (var u = lid; u < p.units; u += WG) {
        let w = dequant16(p.planes, row + u);
        let at = (t * p.units + u) * 4u;
        for (var i = 0u; i < 4u; i++) {
            var v = w[i] * p.scale;
            if (p.add == 1u) {
                v += y[at + i];
            }
            y[at + i] = v;
        }
    }
}
