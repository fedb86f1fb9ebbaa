// Blocks turned by a Hadamard matrix, in place:  x[b, i] = sum_j (-1)^(bits of i & j) x[b, j] / sqrt(SIDE)
//
// The matrix is symmetric and orthogonal, so that turning twice gives what was there.
// x  [blocks, SIDE] f32
//
// One workgroup turns 256 values, as many blocks as that is.

const WG: u32 = 128u;

struct Params {
    values: u32, // a multiple of SIDE
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

var<workgroup> held: array<f32, 2u * WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let first = (wid.x + wid.y * p.grid_x) * 2u * WG;
    if (first >= p.values) {
        return;
    }
    for (var i = lid; i < 2u * WG; i += WG) {
        held[i] = x[min(first + i, p.values - 1u)];
    }
    workgroupBarrier();
    for (var step = 1u; step < SIDE; step <<= 1u) {
        let at = lid / step * 2u * step + lid % step;
        let a = held[at];
        let b = held[at + step];
        held[at] = a + b;
        held[at + step] = a - b;
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(f32(SIDE));
    for (var i = lid; i < 2u * WG; i += WG) {
        if (first + i < p.values) {
            x[first + i] = held[i] * scale;
        }
    }
}
