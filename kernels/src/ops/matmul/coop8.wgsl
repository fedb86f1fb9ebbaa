// 8 x 8 cooperative matrices (Apple, lavapipe): tiles in workgroup memory as f16, the only element
// that Metal's loads take.

alias MatA = coop_mat8x8<f16, A>;
alias MatB = coop_mat8x8<f16, B>;
alias MatC = coop_mat8x8<f32, C>;
alias H = f16;
const T: u32 = 8u;
const PER: u32 = 1u;

fn put_w(at: u32, h: vec4<f16>) {
    ws[at] = h.x;
    ws[at + 1u] = h.y;
    ws[at + 2u] = h.z;
    ws[at + 3u] = h.w;
}
