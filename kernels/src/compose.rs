//! Puts a shader together from constants, fragments and a kernel.

/// One plain WGSL text: `const` lines, then the parts in order. Order does not matter to WGSL, which
/// lets every part name what any other declares.
pub fn compose(constants: &[(&str, u32)], parts: &[&str]) -> String {
    let mut text = String::new();
    for (name, value) in constants {
        text += &format!("const {name}: u32 = {value}u;\n");
    }
    for part in parts {
        text += part;
        text.push('\n');
    }
    text
}
