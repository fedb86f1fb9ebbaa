// 8 x 8 cooperative matrices (Apple, lavapipe): tiles in workgroup memory as f16, the only element
// that Metal's loads take.

alias MatA = coop_mat8x8<f16, A>;
alias MatB = coop_mat8x8<f16, B>;
alias MatC = coop_mat8x8<f32, C>;
const T: u32 = 8u;
const PER: u32 = 1u;

var<workgroup> qs: array<f16, BQ * HS>;
var<workgroup> kv: array<f16, BK * HS>;
var<workgroup> ps: array<f16, BQ * PS>;

fn put_q(at: u32, v: vec4<f32>) {
    let h = vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
    qs[at] = h.x;
    qs[at + 1u] = h.y;
    qs[at + 2u] = h.z;
    qs[at + 3u] = h.w;
}
fn put_kv(at: u32, v: vec4<f32>) {
    let h = vec4<f16>(v);
    kv[at] = h.x;
    kv[at + 1u] = h.y;
    kv[at + 2u] = h.z;
    kv[at + 3u] = h.w;
}
fn put_p(at: u32, v: f32) {
    ps[at] = f16(v);
}
