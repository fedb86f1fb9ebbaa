// Pooling of packed sequences, one of
//   y[s, :] = mean_t x[t, :]    MEAN 1
//   y[s, :] = x[first, :]       MEAN 0, FIRST 1
//   y[s, :] = x[last, :]        MEAN 0, FIRST 0
// over the tokens t of sequence s.
//
// bounds  [sequences]: first token of a sequence, and one past its last
// x       rows first .. first + there of [tokens, width] f32
// y       [sequences, width] f32: sequences sequence0 on
//
// One workgroup serves one sequence. The parts of a split x are dispatched one after the other: a sequence's
// first token overwrites y, and later parts add to it.

struct Params {
    sequences: u32,
    sequence0: u32,
    first: u32,
    there: u32,
    width: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> bounds: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let s = wid.x + wid.y * p.grid_x;
    if (s >= p.sequences) {
        return;
    }
    let bound = bounds[p.sequence0 + s];
    var wanted = bound;
    if (MEAN == 0u) {
        wanted.x = select(bound.y - 1u, bound.x, FIRST == 1u);
        wanted.y = wanted.x + 1u;
    }
    let begin = max(wanted.x, p.first);
    let end = min(wanted.y, p.first + p.there);
    if (begin >= end) {
        return;
    }
    let weight = 1.0 / f32(wanted.y - wanted.x);
    for (var i = lid; i < p.width; i += WG) {
        var sum = 0.0;
        for (var t = begin; t < end; t++) {
            sum += x[(t - p.first) * p.width + i];
        }
        sum *= weight;
        if (begin > wanted.x) {
            sum += y[s * p.width + i];
        }
        y[s * p.width + i] = sum;
    }
}
