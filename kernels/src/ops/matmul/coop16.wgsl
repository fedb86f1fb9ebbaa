// 16 x 16 cooperative matrices (NVIDIA, AMD): tiles in workgroup memory as vec4<f16>, whose stride
// counts vec4.

alias MatA = coop_mat16x16<f16, A>;
alias MatB = coop_mat16x16<f16, B>;
alias MatC = coop_mat16x16<f32, C>;
alias H = vec4<f16>;
const T: u32 = 16u;
const PER: u32 = 4u;

fn put_w(at: u32, h: vec4<f16>) {
    ws[at / 4u] = h;
}
