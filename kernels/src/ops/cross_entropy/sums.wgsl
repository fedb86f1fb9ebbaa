// First sweep of the loss: the largest logit of each row, m = max_i x[i], and l = log sum_i exp(x[i] - m)
//
// logits  [rows, columns] f32
// stats   [rows] of (loss, correct, m, l): what windows before this one gave, and then the same with it
//
// One workgroup serves one row; an invocation keeps a running maximum (Milakov and Gimelshein 2018,
// arXiv:1805.02867), over EACH values at a time.

@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats: array<vec4<u32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let r = wid.x + wid.y * p.grid_x;
    if (r >= p.rows) {
        return;
    }
    let base = r * p.stride + p.first;
    let lowest = -3.4028234663852886e38;
    var m = lowest;
    var sum = 0.0;
    let whole = p.columns / (WG * EACH) * (WG * EACH);
    for (var i = lid; i < whole; i += WG * EACH) {
        //@ for j in EACH
        let v$j = logits[base + i + $ju * WG];
        //@ end
        var high = m;
        //@ for j in EACH
        high = max(high, v$j);
        //@ end
        sum *= exp(m - high);
        //@ for j in EACH
        sum += exp(v$j - high);
        //@ end
        m = high;
    }
    for (var i = whole + lid; i < p.columns; i += WG) {
        let v = logits[base + i];
        let high = max(m, v);
        sum = fma(sum, exp(m - high), exp(v - high));
        m = high;
    }
    var high = wg_max(m, lid);
    var l = log(wg_sum(sum * exp(m - high), lid));
    if (lid == 0u) {
        let row = p.row0 + r;
        if ((p.flags & FIRST) == 0u) {
            let before = bitcast<vec2<f32>>(stats[row].zw);
            let both = max(high, before.x);
            l = log(exp(high - both + l) + exp(before.x - both + before.y));
            high = both;
        }
        stats[row] = vec4<u32>(0u, 0u, bitcast<u32>(high), bitcast<u32>(l));
    }
}
