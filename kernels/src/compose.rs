//! Puts a shader together from constants, fragments and a kernel.
//!
//! A fragment is WGSL with directives, each on a line of its own:
//! * `//@ for i in NAME` … `//@ end` repeats lines for i from 0 to the constant NAME less 1, with `$i` replaced by
//!   the number. Cooperative matrices need it: drivers keep them in registers only where each is a variable of its
//!   own, and an array of them, even under loops of fixed length, went to memory and ran at an eighth of the speed on
//!   an H200.
//! * `//@ if NAME` … `//@ else` … `//@ end` keeps the first lines where the constant NAME is not 0, the second ones
//!   where it is. `//@ if !NAME` turns that round, and `//@ else` may be missing.
//! * `//@ param NAME` declares a parameter, written `$NAME` in the text, whose value [`fragment`] puts in;
//!   `//@ param NAME = value` has one where nobody does.

/// One plain WGSL text: `enable` lines, `const` lines, then the parts in order. Order does not matter
/// to WGSL, which lets every part name what any other declares.
///
/// # Panics
/// If a directive is unknown or does not end, or names no constant; if a parameter is missing or unused.
pub fn compose(enables: &[&str], constants: &[(&str, u32)], parts: &[&str]) -> String {
    composed(enables, constants, parts).unwrap_or_else(|e| panic!("a shader cannot be composed: {e}"))
}

/// The text with values for its parameters, for [`compose`].
///
/// # Panics
/// If the text declares no such parameter, or does not use it.
pub(crate) fn fragment(text: &str, values: &[(&str, &str)]) -> String {
    with_values(text, values).unwrap_or_else(|e| panic!("a fragment cannot be used: {e}"))
}

type Composed<T> = Result<T, String>;

fn composed(enables: &[&str], constants: &[(&str, u32)], parts: &[&str]) -> Composed<String> {
    let mut text = String::new();
    for extension in enables {
        text += &format!("enable {extension};\n");
    }
    for (name, value) in constants {
        text += &format!("const {name}: u32 = {value}u;\n");
    }
    for part in parts {
        let part = with_defaults(part)?;
        let lines: Vec<&str> = part.lines().collect();
        expand(&lines, constants, &mut text)?;
        text.push('\n');
    }
    match text.lines().find(|l| l.contains('$')) {
        Some(line) => Err(format!("nothing replaces the parameter in `{}`", line.trim())),
        None => Ok(text),
    }
}

/// What follows `//@` in a line.
fn directive(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("//@").map(str::trim)
}

/// The parameter that a line declares, with the value that it has where nobody gives one.
fn declared(line: &str) -> Option<(&str, Option<&str>)> {
    let rest = directive(line)?.strip_prefix("param ")?;
    Some(rest.split_once('=').map_or((rest.trim(), None), |(name, value)| (name.trim(), Some(value.trim()))))
}

/// The text without the line that declares `name`, and with `value` in its place elsewhere.
fn with_value(text: &str, name: &str, value: &str) -> Composed<String> {
    let lines = text.lines().filter(|l| declared(l).is_none_or(|d| d.0 != name));
    let rest: String = lines.flat_map(|l| [l, "\n"]).collect();
    let written = format!("${name}");
    match rest.contains(&written) {
        true => Ok(rest.replace(&written, value)),
        false => Err(format!("the parameter {name} is not used")),
    }
}

fn with_values(text: &str, values: &[(&str, &str)]) -> Composed<String> {
    values.iter().try_fold(text.to_owned(), |text, (name, value)| {
        match text.lines().filter_map(declared).any(|d| d.0 == *name) {
            true => with_value(&text, name, value),
            false => Err(format!("no parameter {name} is declared")),
        }
    })
}

fn with_defaults(text: &str) -> Composed<String> {
    text.lines().filter_map(declared).try_fold(text.to_owned(), |text, (name, value)| {
        with_value(&text, name, value.ok_or_else(|| format!("the parameter {name} is missing"))?)
    })
}

/// The `//@ else` of the directive at line `at`, if there is one, and its `//@ end`.
fn ends(lines: &[&str], at: usize) -> Composed<(Option<usize>, usize)> {
    let (mut depth, mut other) = (1, None);
    for (i, line) in lines.iter().enumerate().skip(at + 1) {
        match directive(line) {
            None => {}
            Some("end") if depth == 1 => return Ok((other, i)),
            Some("end") => depth -= 1,
            Some("else") if depth == 1 && other.is_none() => other = Some(i),
            Some("else") if depth == 1 => return Err(format!("{}: a second else", lines[at].trim())),
            Some("else") => {}
            Some(_) => depth += 1,
        }
    }
    Err(format!("{}: no end", lines[at].trim()))
}

fn expand(lines: &[&str], constants: &[(&str, u32)], out: &mut String) -> Composed<()> {
    let value = |name: &str| {
        let found = constants.iter().find(|c| c.0 == name);
        found.map(|c| c.1).ok_or_else(|| format!("no constant {name}"))
    };
    let mut at = 0;
    while at < lines.len() {
        let Some(head) = directive(lines[at]) else {
            out.push_str(lines[at]);
            out.push('\n');
            at += 1;
            continue;
        };
        let (other, end) = ends(lines, at)?;
        if let Some((variable, name)) = head.strip_prefix("for ").and_then(|rest| rest.split_once(" in ")) {
            if other.is_some() {
                return Err(format!("//@ {head}: a loop has no else"));
            }
            for n in 0..value(name)? {
                let number = |l: &&str| l.replace(&format!("${variable}"), &n.to_string());
                let body: Vec<String> = lines[at + 1..end].iter().map(number).collect();
                expand(&body.iter().map(String::as_str).collect::<Vec<_>>(), constants, out)?;
            }
        } else if let Some(name) = head.strip_prefix("if ") {
            let (name, wanted) = name.strip_prefix('!').map_or((name, true), |name| (name, false));
            let kept = match (value(name)? != 0) == wanted {
                true => at + 1..other.unwrap_or(end),
                false => other.map_or(end, |other| other + 1)..end,
            };
            expand(&lines[kept], constants, out)?;
        } else {
            return Err(format!("//@ {head}: neither `for VARIABLE in CONSTANT` nor `if CONSTANT`"));
        }
        at = end + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{compose, composed, fragment, with_values};

    #[test]
    fn repetitions_nest() {
        let part = "a\n//@ for i in N\nb$i\n  //@ for j in M\nc$i_$j\n  //@ end\n//@ end\nd";
        let text = compose(&["f16"], &[("N", 2), ("M", 1)], &[part]);
        let want = "enable f16;\nconst N: u32 = 2u;\nconst M: u32 = 1u;\na\nb0\nc0_0\nb1\nc1_0\nd\n\n";
        assert_eq!(text, want);
    }

    /// The lines that are left, without those of constants.
    fn kept(constants: &[(&str, u32)], part: &str) -> String {
        let text = composed(&[], constants, &[part]).expect("a text");
        text.lines().skip(constants.len()).collect()
    }

    #[test]
    fn conditions_choose_and_nest() {
        let part = "a\n//@ if X\nb\n//@ if !Y\nc\n//@ end\n//@ else\nd\n//@ if Y\ne\n//@ else\nf\n//@ end\n//@ end\ng";
        for (x, y, want) in [(1, 1, "abg"), (2, 0, "abcg"), (0, 1, "adeg"), (0, 0, "adfg")] {
            assert_eq!(kept(&[("X", x), ("Y", y)], part), want, "{x} {y}");
        }
        let looped = "//@ for i in N\n//@ if X\na$i\n//@ else\nb$i\n//@ end\n//@ end";
        assert_eq!(kept(&[("N", 2), ("X", 0)], looped), "b0b1");
    }

    #[test]
    fn parameters_are_put_in() {
        let text = "//@ param ARRAY\n//@ param NTH = \nfn $ARRAY_at$NTH() {}";
        assert_eq!(kept(&[], &fragment(text, &[("ARRAY", "x")])), "fn x_at() {}");
        assert_eq!(kept(&[], &fragment(text, &[("ARRAY", "x"), ("NTH", "_2")])), "fn x_at_2() {}");
    }

    #[test]
    fn mistakes_are_errors() {
        for (part, says) in [
            ("//@ for i in N\na$i", "no end"),
            ("//@ for i in M\n//@ end", "no constant M"),
            ("//@ if M\n//@ end", "no constant M"),
            ("//@ repeat N\n//@ end", "//@ repeat N: neither"),
            ("//@ for i in N\n//@ else\n//@ end", "a loop has no else"),
            ("//@ if N\n//@ else\n//@ else\n//@ end", "a second else"),
            ("//@ end", "no end"),
            ("//@ param ARRAY\n$ARRAY", "the parameter ARRAY is missing"),
            ("//@ param ARRAY = x\ny", "the parameter ARRAY is not used"),
            ("let x = $OTHER;", "nothing replaces the parameter in `let x = $OTHER;`"),
        ] {
            let e = composed(&[], &[("N", 2)], &[part]).expect_err(part);
            assert!(e.contains(says), "{part}: {e}");
        }
        let e = with_values("//@ param A\n$A", &[("B", "x")]).expect_err("no such parameter");
        assert_eq!(e, "no parameter B is declared");
        let e = with_values("//@ param A\n", &[("A", "x")]).expect_err("unused");
        assert_eq!(e, "the parameter A is not used");
    }
}
