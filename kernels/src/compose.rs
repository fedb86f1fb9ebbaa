//! Puts a shader together from constants, fragments and a kernel.

/// One plain WGSL text: `enable` lines, `const` lines, then the parts in order. Order does not matter
/// to WGSL, which lets every part name what any other declares.
pub fn compose(enables: &[&str], constants: &[(&str, u32)], parts: &[&str]) -> String {
    let mut text = String::new();
    for extension in enables {
        text += &format!("enable {extension};\n");
    }
    for (name, value) in constants {
        text += &format!("const {name}: u32 = {value}u;\n");
    }
    for part in parts {
        text += part;
        text.push('\n');
    }
    text
}
