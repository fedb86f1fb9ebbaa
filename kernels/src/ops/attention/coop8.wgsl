// 8 x 8 cooperative matrices (Apple, lavapipe): tiles in workgroup memory as single values, the only
// elements that Metal's loads take.

alias MatA = coop_mat8x8<f16, A>;
alias MatB = coop_mat8x8<f16, B>;
alias MatC = coop_mat8x8<f32, C>;
const T: u32 = 8u;
const PER: u32 = 1u;

var<workgroup> kv: array<f16, 4u * BK * HS>;
var<workgroup> ps: array<f16, BQ * PS>;
var<workgroup> scores: array<f32, SCORES * BQ * SS>;

fn put_half(at: u32, v: vec4<f16>) {
    kv[at] = v.x;
    kv[at + 1u] = v.y;
    kv[at + 2u] = v.z;
    kv[at + 3u] = v.w;
}
fn put4(at: u32, v: vec4<f32>) {
    put_half(at, vec4<f16>(v));
}
fn put8(at: u32, v: mat2x4<f16>) {
    put_half(at, v[0]);
    put_half(at + 4u, v[1]);
}
fn put_p(at: u32, v: vec4<f32>) {
    let h = vec4<f16>(v);
    ps[at] = h.x;
    ps[at + 1u] = h.y;
    ps[at + 2u] = h.z;
    ps[at + 3u] = h.w;
}
fn score4(at: u32) -> vec4<f32> {
    return vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
}
fn scale_row(at: u32, by: f32) {
    for (var i = 0u; i < T / SHARE; i++) {
        scores[at + i] *= by;
    }
}
