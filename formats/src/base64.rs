//! Base64 as JSON has it (RFC 4648, section 4).

/// The bytes that `text` stands for, with or without its padding, or `None` where it stands for none.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        out.extend(bytes.get(1..group.len()).filter(|b| !b.is_empty())?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_vectors_of_the_rfc() {
        for (text, want) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(want.as_bytes()), "{text}");
        }
        assert_eq!((decode("Z"), decode("Zm9v!")), (None, None));
    }

    #[test]
    fn bytes_of_any_kind_are_read_with_and_without_padding() {
        for (text, want) in [
            ("", &b""[..]),
            ("AA==", b"\0"),
            ("AACAPw", b"\0\0\x80?"),
            ("aGVsbG8=", b"hello"),
            ("/+8=", b"\xff\xef"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(want), "{text}");
        }
        for text in ["A", "AA A", "a-b_", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
