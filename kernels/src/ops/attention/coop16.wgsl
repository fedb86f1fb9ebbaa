// 16 x 16 cooperative matrices (NVIDIA, AMD): tiles in workgroup memory as vec4<f16>, whose stride
// counts vec4; the exponentials, which are written one by one, as f16.

alias MatA = coop_mat16x16<f16, A>;
alias MatB = coop_mat16x16<f16, B>;
alias MatC = coop_mat16x16<f32, C>;
const T: u32 = 16u;
const PER: u32 = 4u;

var<workgroup> qs: array<vec4<f16>, BQ * HS / 4u>;
var<workgroup> kv: array<vec4<f16>, BK * HS / 4u>;
var<workgroup> ps: array<f16, BQ * PS>;

fn put_q(at: u32, v: vec4<f32>) {
    qs[at / 4u] = vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
fn put_kv(at: u32, v: vec4<f32>) {
    kv[at / 4u] = vec4<f16>(v);
}
fn put_p(at: u32, v: f32) {
    ps[at] = f16(v);
}
