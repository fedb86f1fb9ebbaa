//! Patterns of JSON Schema, which are ECMAScript's, in the notation of the compiler.
//!
//! Where dialects differ in what they match, the translation matches what all of them do, so that an answer is valid
//! whatever the caller checks it with.

/// Translates a pattern.
///
/// # Errors
/// Why it cannot be, as a sentence that reads on from the pattern's place.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    if pattern.len() > 4096 {
        return Err("is longer than 4096 bytes".into());
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let chars: Vec<char> = pattern.chars().collect();
    let (mut i, mut depth, mut class) = (0, 0usize, false);
    while i < chars.len() {
        let (c, next) = (chars[i], chars.get(i + 1).copied());
        i += 1;
        match (c, class) {
            ('\\', _) => {
                let next = next.ok_or("ends in a backslash")?;
                i += 1;
                escape(next, class, &mut out)?;
            }
            ('[', false) => {
                class = true;
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    i += 1;
                }
                if chars.get(i) == Some(&']') {
                    return Err("holds an empty class of characters".into());
                }
            }
            (']', true) => {
                class = false;
                out.push(']');
            }
            // These mean sets of sets to the compiler, and themselves to ECMAScript.
            ('[' | '&' | '~', true) => out.extend(['\\', c]),
            ('-', true) if next == Some('-') => {
                return Err("holds a range of characters that dialects read differently".into());
            }
            ('.', false) => out.push_str(r"[^\n\r\u2028\u2029]"),
            ('(', false) => {
                depth += 1;
                if depth > 50 {
                    return Err("nests more than 50 groups".into());
                }
                let ahead: String = chars[i..chars.len().min(i + 3)].iter().collect();
                if ["?=", "?!", "?<=", "?<!"].iter().any(|p| ahead.starts_with(p)) {
                    return Err("looks ahead or behind, which cannot be enforced".into());
                }
                out.push('(');
            }
            (')', false) => {
                depth = depth.saturating_sub(1);
                out.push(')');
            }
            _ => out.push(c),
        }
    }
    if class {
        return Err("has a class of characters that is not closed".into());
    }
    Ok(out)
}

fn escape(c: char, class: bool, out: &mut String) -> Result<(), String> {
    match c {
        's' if class => out.push_str(r" \t\n\r\f\v"),
        's' => out.push_str(r"[ \t\n\r\f\v]"),
        'S' if !class => out.push_str(r"[^\s\x1c-\x1f\x85\ufeff]"),
        'D' if !class => out.push_str(r"[^\p{Nd}]"),
        'W' if !class => out.push_str(r"[^\p{L}\p{M}\p{N}\p{Pc}]"),
        'S' | 'D' | 'W' => {
            return Err(format!("holds \\{c} in a class of characters, which cannot be enforced"));
        }
        'b' | 'B' => return Err(format!("holds \\{c}, which cannot be enforced")),
        '1'..='9' | 'k' => return Err("refers back to a group, which cannot be enforced".into()),
        'c' => return Err("holds a control letter, which cannot be enforced".into()),
        '0' => out.push_str(r"\x00"),
        '/' => out.push('/'),
        c if c.is_alphanumeric() || c.is_ascii_punctuation() => out.extend(['\\', c]),
        c => out.push(c),
    }
    Ok(())
}
