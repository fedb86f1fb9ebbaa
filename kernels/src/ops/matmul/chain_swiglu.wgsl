// The end of the product with gate and up, stacked: g / (1 + exp(-g)) u as 8-bit integers. A row of lanes
// has row i of gate and row i of up; rows is twice a multiple of 16.
//
// outq  [rows / 32] integers, and outm (scale, scale times sum), see quantize/kernel.wgsl

@group(0) @binding(3) var<storage, read_write> outq: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> outm: array<vec2<f32>>;

var<workgroup> values: array<vec4<f32>, GROUPS / 4u>;

fn row_of(group: u32, r: u32) -> u32 {
    return min(group, p.rows / 2u - 1u) + r * (p.rows / 2u);
}

// Nothing is needed before the sums.
fn fetch(workgroup: u32, lid: u32) {}

fn store_rows(workgroup: u32, lid: u32) {
    sum_lanes(lid);
    if (lid < GROUPS) {
        let at = lid * LANES;
        let scale = input_scale(at);
        let g = part[at] * scale;
        // exp(-g) overflows to infinity below -88, where the quotient is rightly 0.
        values[lid / 4u][lid % 4u] = g / (1.0 + exp(-max(g, -80.0))) * (part[WG + at] * scale);
    }
    workgroupBarrier();
    let unit = workgroup * (GROUPS / 16u) + lid;
    if (lid < GROUPS / 16u && unit < p.rows / 32u) {
        let u = unit16(values[4u * lid], values[4u * lid + 1u], values[4u * lid + 2u], values[4u * lid + 3u]);
        outq[unit] = u.q;
        outm[unit] = vec2<f32>(u.scale, u.sum);
    }
}
