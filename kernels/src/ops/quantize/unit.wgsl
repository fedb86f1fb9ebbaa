// One unit of 16 values to 8-bit integers, for xq and xm of the kernel it is part of.

fn put_unit(u: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
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
    xq[u] = vec4<u32>(pack4xI8(g0), pack4xI8(g1), pack4xI8(g2), pack4xI8(g3));
    xm[u] = vec2<f32>(scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
}
