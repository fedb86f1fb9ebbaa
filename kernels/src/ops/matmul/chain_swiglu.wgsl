// The end of the product with gate and up, stacked: g / (1 + exp(-g)) u as 8-bit integers. A row of lanes
// has GATES rows of gate and as many of up; rows is twice a multiple of 16.
//
// outq  [tokens, rows / 32] integers, and outm (scale, scale times sum), see quantize/kernel.wgsl
//
// A workgroup has an invocation for each row of gate of each token.

const GATES: u32 = ROWS / 2u;
const OUT: u32 = GROUPS * GATES;

@group(0) @binding(3) var<storage, read_write> outq: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> outm: array<vec2<f32>>;

var<workgroup> values: array<vec4<f32>, TOKENS * OUT / 4u>;

fn row_of(group: u32, r: u32) -> u32 {
    return min(group * GATES + r % GATES, p.rows / 2u - 1u) + r / GATES * (p.rows / 2u);
}

// Nothing is needed before the sums.
fn fetch(workgroup: u32, lid: u32) {}

fn store_rows(workgroup: u32, lid: u32) {
    sum_lanes(lid);
    let t = lid / OUT;
    if (t < TOKENS) {
        let at = lid % OUT / GATES * LANES;
        let r = lid % GATES;
        let scale = input_scale(t, at);
        let g = sum_of(r * TOKENS + t, at) * scale;
        let up = sum_of((GATES + r) * TOKENS + t, at) * scale;
        // exp(-g) overflows to infinity below -88, where the quotient is rightly 0.
        values[lid / 4u][lid % 4u] = g / (1.0 + exp(-max(g, -80.0))) * up;
    }
    workgroupBarrier();
    let unit = workgroup * (OUT / 16u) + lid % (OUT / 16u);
    let token = lid / (OUT / 16u);
    if (token < TOKENS && unit < p.rows / 32u) {
        let u = unit16(values[4u * lid], values[4u * lid + 1u], values[4u * lid + 2u], values[4u * lid + 3u]);
        let at = (token0 + token) * (p.rows / 32u) + unit;
        outq[at] = u.q;
        outm[at] = vec2<f32>(u.scale, u.sum);
    }
}
