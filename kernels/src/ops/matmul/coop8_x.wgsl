// Stores four values of coop.wgsl's tile of x, see coop8.wgsl.
fn put_x(at: u32, h: vec4<f16>) {
    xs[at] = h.x;
    xs[at + 1u] = h.y;
    xs[at + 2u] = h.z;
    xs[at + 3u] = h.w;
}
