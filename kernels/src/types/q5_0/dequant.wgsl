// Q5_0: x = d (q - 16). plane 0: low nibbles, plane 1: fifth bits (a word a block), both in pair
// order; plane 2: d as f16.
fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    let b = u >> 1u;
    let d = half_at(planes.z, b);
    return fives16(half_of(w4[(planes.x >> 2u) + b], u), w1[planes.y + b], u & 1u, d, -16.0 * d);
}
