// What follows from the integers of a head's parts: those of a unit, and dequant16, the four groups of bytes put in
// order and scaled.

struct Ints {
    q: vec4<u32>,
    scale: f32,
    offset: f32,
}

fn ints16(planes: vec4<u32>, u: u32) -> Ints {
    let at = head_and_part(u);
    return ints_of(planes, head_of(planes, at.x), at.x, at.y);
}

fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32> {
    return dequant_ints(ints16(planes, u));
}

fn dequant_ints(i: Ints) -> mat4x4<f32> {
    let a = vec4<f32>(unpack4xI8(i.q.x));
    let b = vec4<f32>(unpack4xI8(i.q.y));
    let c = vec4<f32>(unpack4xI8(i.q.z));
    let d = vec4<f32>(unpack4xI8(i.q.w));
    let s = vec4<f32>(i.scale);
    let o = vec4<f32>(i.offset);
    return mat4x4<f32>(
        fma(vec4<f32>(a.xz, b.xz), s, o), fma(vec4<f32>(a.yw, b.yw), s, o),
        fma(vec4<f32>(c.xz, d.xz), s, o), fma(vec4<f32>(c.yw, d.yw), s, o));
}
