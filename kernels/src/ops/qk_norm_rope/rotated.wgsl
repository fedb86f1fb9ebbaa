// RoPE of the head in x, as in rope/kernel.wgsl; forwards with direction 1, back with -1.

var<workgroup> x: array<f32, HD>;

// Dimension d after the rotation at `position`.
fn rotated(d: u32, position: u32, direction: f32) -> f32 {
    if (d >= 2u * p.pairs) {
        return x[d];
    }
    var i = d % p.pairs;
    var partner = select(d - p.pairs, d + p.pairs, d < p.pairs);
    var first = d < p.pairs;
    if (ADJACENT == 1u) {
        i = d / 2u;
        partner = d ^ 1u;
        first = (d & 1u) == 0u;
    }
    let near = table[(position & 127u) * p.pairs + i];
    let far = table[(128u + (position >> 7u)) * p.pairs + i];
    let c = (near.x * far.x - near.y * far.y) * p.mscale;
    let s = (near.y * far.x + near.x * far.y) * p.mscale * direction;
    return x[d] * c + select(s, -s, first) * x[partner];
}
