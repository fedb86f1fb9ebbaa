// Four words of the slab, the i-th four.
alias Words = vec4<u32>;
fn load4(i: u32) -> vec4<u32> {
    return w4[i];
}
