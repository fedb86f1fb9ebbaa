// Stores four values of coop.wgsl's tile of x, see coop16.wgsl.
fn put_x(at: u32, h: vec4<f16>) {
    xs[at / 4u] = h;
}
