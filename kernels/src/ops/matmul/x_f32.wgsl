// Activations in f32, rounded to f16; infinite where it does not hold them.
alias X4 = vec4<f32>;
fn half4(v: vec4<f32>) -> vec4<f16> {
    var s = v;
    //@ if !FORWARD
    s *= p.scale;
    //@ end
    return vec4<f16>(s);
}
