// 16 x 16 cooperative matrices (NVIDIA, AMD): tiles in workgroup memory as vec4, whose stride counts vec4.

alias MatA = coop_mat16x16<f16, A>;
alias MatB = coop_mat16x16<f16, B>;
alias MatC = coop_mat16x16<f32, C>;
const T: u32 = 16u;
const PER: u32 = 4u;

var<workgroup> kv: array<vec4<f16>, 4u * BK * HS / 4u>;
var<workgroup> ps: array<vec4<f16>, BQ * PS / 4u>;
var<workgroup> scores: array<vec4<f32>, SCORES * BQ * SS / 4u>;

fn put4(at: u32, v: vec4<f32>) {
    kv[at / 4u] = vec4<f16>(v);
}
fn put8(at: u32, v: mat2x4<f16>) {
    kv[at / 4u] = v[0];
    kv[at / 4u + 1u] = v[1];
}
fn put_p(at: u32, v: vec4<f32>) {
    ps[at / 4u] = vec4<f16>(v);
}
fn score4(at: u32) -> vec4<f32> {
    return scores[at / 4u];
}
fn scale_row(at: u32, by: f32) {
    for (var i = 0u; i < T / SHARE; i += 4u) {
        scores[(at + i) / 4u] *= by;
    }
}
