//! Puts a shader together from constants, fragments and a kernel.

/// One plain WGSL text: `enable` lines, `const` lines, then the parts in order. Order does not matter
/// to WGSL, which lets every part name what any other declares.
///
/// Lines between `//@ for i in NAME` and `//@ end` are repeated for i from 0 to the constant NAME less
/// 1, with `$i` replaced by the number. Cooperative matrices need it: drivers keep them in registers
/// only where each is a variable of its own, and an array of them, even under loops of fixed length,
/// went to memory and ran at an eighth of the speed on an H200.
///
/// # Panics
/// If a repetition does not end, or names no constant.
pub fn compose(enables: &[&str], constants: &[(&str, u32)], parts: &[&str]) -> String {
    let mut text = String::new();
    for extension in enables {
        text += &format!("enable {extension};\n");
    }
    for (name, value) in constants {
        text += &format!("const {name}: u32 = {value}u;\n");
    }
    for part in parts {
        let lines: Vec<&str> = part.lines().collect();
        repeat(&lines, constants, &mut text);
        text.push('\n');
    }
    text
}

fn repeat(lines: &[&str], constants: &[(&str, u32)], out: &mut String) {
    let directive = |line: &str| line.trim().strip_prefix("//@ ").map(str::to_owned);
    let mut at = 0;
    while at < lines.len() {
        let Some(head) = directive(lines[at]) else {
            out.push_str(lines[at]);
            out.push('\n');
            at += 1;
            continue;
        };
        let (variable, name) = head
            .strip_prefix("for ")
            .and_then(|rest| rest.split_once(" in "))
            .unwrap_or_else(|| panic!("//@ {head}: expected `for VARIABLE in CONSTANT`"));
        let count = constants.iter().find(|c| c.0 == name).unwrap_or_else(|| panic!("no constant {name}")).1;
        // The matching end.
        let mut depth = 1;
        let mut end = at;
        while depth > 0 {
            end += 1;
            match lines.get(end).map(|l| directive(l)) {
                None => panic!("//@ {head}: no end"),
                Some(Some(d)) if d == "end" => depth -= 1,
                Some(Some(_)) => depth += 1,
                Some(None) => {}
            }
        }
        for n in 0..count {
            let body: Vec<String> = lines[at + 1..end]
                .iter()
                .map(|l| l.replace(&format!("${variable}"), &n.to_string()))
                .collect();
            repeat(&body.iter().map(String::as_str).collect::<Vec<_>>(), constants, out);
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::compose;

    #[test]
    fn repetitions_nest() {
        let part = "a\n//@ for i in N\nb$i\n  //@ for j in M\nc$i_$j\n  //@ end\n//@ end\nd";
        let text = compose(&["f16"], &[("N", 2), ("M", 1)], &[part]);
        let want = "enable f16;\nconst N: u32 = 2u;\nconst M: u32 = 1u;\na\nb0\nc0_0\nb1\nc1_0\nd\n\n";
        assert_eq!(text, want);
    }
}
