// 8 x 8 cooperative matrices (Apple, lavapipe): tiles in workgroup memory as f16, the only element
// that Metal's loads take.

alias MatA = coop_mat8x8<f16, A>;
alias MatB = coop_mat8x8<f16, B>;
alias MatC = coop_mat8x8<f32, C>;
const T: u32 = 8u;
const PER: u32 = 1u;

var<workgroup> xs: array<f16, BM * STRIDE>;
var<workgroup> ws: array<f16, BN * STRIDE>;

fn put_x(at: u32, v: vec4<f32>) {
    let h = vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
    xs[at] = h.x;
    xs[at + 1u] = h.y;
    xs[at + 2u] = h.z;
    xs[at + 3u] = h.w;
}
fn put_w(at: u32, v: vec4<f32>) {
    let h = vec4<f16>(v);
    ws[at] = h.x;
    ws[at + 1u] = h.y;
    ws[at + 2u] = h.z;
    ws[at + 3u] = h.w;
}
