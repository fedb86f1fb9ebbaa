// Sums of squares by column:  s[c] += Σ_t x[t, c]²
//
// x  [tokens, cols] f32, or f16 in pairs
// s  [cols] f32
//
// One workgroup sums 16 columns, 16 invocations a column with every 16th token each.

struct Params {
    tokens: u32,
    cols: u32,
    grid_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<Word>;
@group(0) @binding(2) var<storage, read_write> s: array<f32>;

var<workgroup> part: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let c = (wid.x + wid.y * p.grid_x) * 16u + lid % 16u;
    let phase = lid / 16u;
    var sum = 0.0;
    if (c < p.cols) {
        for (var t = phase; t < p.tokens; t += 16u) {
            let v = value(t * p.cols + c);
            sum = fma(v, v, sum);
        }
    }
    part[lid] = sum;
    workgroupBarrier();
    for (var half = 8u; half > 0u; half >>= 1u) {
        if (phase < half) {
            part[lid] += part[lid + half * 16u];
        }
        workgroupBarrier();
    }
    if (phase == 0u && c < p.cols) {
        s[c] += part[lid];
    }
}
