// A unit of 16 values as 8-bit integers: X = round(x / scale), scale = max |x| / 127; sum is scale times
// the sum of X.
struct Unit {
    q: vec4<u32>,
    scale: f32,
    sum: f32,
}

fn unit16(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Unit {
    let m = max(max(abs(a), abs(b)), max(abs(c), abs(d)));
    let largest = max(max(m.x, m.y), max(m.z, m.w));
    let inverse = select(0.0, 127.0 / largest, largest > 1e-30);
    // The groups: (0, 4, 1, 5), (2, 6, 3, 7), and the same eight further on.
    let g0 = vec4<i32>(round(vec4<f32>(a.x, b.x, a.y, b.y) * inverse));
    let g1 = vec4<i32>(round(vec4<f32>(a.z, b.z, a.w, b.w) * inverse));
    let g2 = vec4<i32>(round(vec4<f32>(c.x, d.x, c.y, d.y) * inverse));
    let g3 = vec4<i32>(round(vec4<f32>(c.z, d.z, c.w, d.w) * inverse));
    let sum = g0 + g1 + g2 + g3;
    let scale = largest / 127.0;
    let q = vec4<u32>(pack4xI8(g0), pack4xI8(g1), pack4xI8(g2), pack4xI8(g3));
    return Unit(q, scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
}
