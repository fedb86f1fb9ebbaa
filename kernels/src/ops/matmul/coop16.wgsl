// 16 x 16 cooperative matrices (NVIDIA, AMD): tiles in workgroup memory as vec4<f16>, whose stride
// counts vec4.

alias MatA = coop_mat16x16<f16, A>;
alias MatB = coop_mat16x16<f16, B>;
alias MatC = coop_mat16x16<f32, C>;
const T: u32 = 16u;
const PER: u32 = 4u;

var<workgroup> xs: array<vec4<f16>, BM * STRIDE / 4u>;
var<workgroup> ws: array<vec4<f16>, BN * STRIDE / 4u>;

fn put_x(at: u32, v: vec4<f32>) {
    xs[at / 4u] = vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
fn put_w(at: u32, v: vec4<f32>) {
    ws[at / 4u] = vec4<f16>(v);
}
