// Second sweep of the loss, in place, with m and l of the first:
//   p[i] = exp(x[i] - m - l),  gradient[i] = (p[i] - (i == label ? 1 : 0)) scale
//   loss = m + l - x[label],  correct = x[label] >= m
// A row without a label has no loss, and a gradient of 0.
//
// logits  [rows, columns] f32, then the gradient
// stats   [rows] of (loss f32, correct u32, m f32, l f32)
// labels  [rows] u32
// scale   [1] f32
//
// One workgroup serves one row.

@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> scale: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let base = r * p.stride + p.first;
    let row = p.row0 + r;
    let label = labels[row];
    let factor = select(scale[0], 0.0, label == IGNORED);
    let found = bitcast<vec2<f32>>(stats[row].zw);
    // Whoever has the label's column.
    let at = label - p.column0;
    if (label != IGNORED && label >= p.column0 && at < p.columns && at % WG == lid) {
        let x = logits[base + at];
        let loss = found.x - x + found.y;
        stats[row] = vec4<u32>(bitcast<u32>(loss), select(0u, 1u, x >= found.x), stats[row].zw);
    }
    let whole = p.columns / (WG * EACH) * (WG * EACH);
    for (var i = lid; i < whole; i += WG * EACH) {
        //@ for j in EACH
        let v$j = logits[base + i + $ju * WG];
        //@ end
        //@ for j in EACH
        logits[base + i + $ju * WG] = gradient(v$j, i + $ju * WG == at, found, factor);
        //@ end
    }
    for (var i = whole + lid; i < p.columns; i += WG) {
        logits[base + i] = gradient(logits[base + i], i == at, found, factor);
    }
}

fn gradient(x: f32, is_label: bool, found: vec2<f32>, factor: f32) -> f32 {
    if (factor == 0.0) {
        return 0.0;
    }
    return (exp(x - found.x - found.y) - select(0.0, 1.0, is_label)) * factor;
}
