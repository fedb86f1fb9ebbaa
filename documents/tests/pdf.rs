//! Text out of PDF files, and what damaged and hostile ones do: nothing.

use std::time::{Duration, Instant};

use weft_documents::pdf::{Limits, pages};

/// As Chromium prints it, with fonts of its own.
const LOOMS: &[u8] = include_bytes!("data/looms.pdf");

/// A PDF of pages, each of which is a stream of operators.
fn made(streams: &[&str]) -> Vec<u8> {
    let mut objects = vec![
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        format!(
            "<</Type/Pages/Count {}/Kids[{}]>>",
            streams.len(),
            (0..streams.len()).map(|i| format!("{} 0 R ", 4 + 2 * i)).collect::<String>()
        ),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
    ];
    for (i, stream) in streams.iter().enumerate() {
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {} 0 R/Resources<</Font<</F 3 0 R>>>>>>",
            5 + 2 * i
        ));
        objects.push(format!("<</Length {}>>stream\n{stream}\nendstream", stream.len()));
    }
    let (mut out, mut places) = ("%PDF-1.4\n".to_owned(), Vec::new());
    for (i, object) in objects.iter().enumerate() {
        places.push(out.len());
        out += &format!("{} 0 obj\n{object}\nendobj\n", i + 1);
    }
    let at = out.len();
    out += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for place in places {
        out += &format!("{place:010} 00000 n \n");
    }
    out += &format!("trailer<</Size {}/Root 1 0 R>>\nstartxref\n{at}\n%%EOF", objects.len() + 1);
    out.into_bytes()
}

#[test]
fn words_lines_and_pages_are_those_that_are_seen() {
    let texts = pages(LOOMS, Limits::default()).expect("a PDF");
    assert_eq!(texts.len(), 2, "{texts:?}");
    let flat = |i: usize| texts[i].split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat(0).starts_with("The looms of Harrowgate The mill at Harrowgate was built in 1794 beside"),
        "{texts:?}"
    );
    assert!(
        flat(1).ends_with("which held nine thousand gallons — the first of its kind in the valley."),
        "{texts:?}"
    );
    assert!(texts[0].contains("\n\nThe warp is"), "a paragraph's end: {texts:?}");
    let two = made(&[
        "BT /F 12 Tf 50 700 Td (Hello brave) Tj 0 -14 Td (new wor-) Tj 0 -14 Td (ld.) Tj 0 -60 Td (End) Tj ET",
        "BT /F 10 Tf 50 700 Td [(T) 30 (wo) -400 (words)] TJ 200 0 Td (far) Tj ET",
    ]);
    assert_eq!(
        pages(&two, Limits::default()),
        Ok(vec!["Hello brave\nnew world.\n\nEnd\n".into(), "Two words far\n".into()])
    );
}

#[test]
fn bounds_hold() {
    let many = made(&["BT /F 12 Tf (x) Tj ET"; 30]);
    let few = Limits { pages: 20, ..Limits::default() };
    assert_eq!(pages(&many, few), Err("it has 30 pages; at most 20 are taken".into()));
    let long = made(&[&format!("BT /F 12 Tf ({}) Tj ET", "word ".repeat(2000))]);
    let small = Limits { text: 1000, ..Limits::default() };
    assert!(pages(&long, small).unwrap_err().contains("its text has more"));
    let none = Limits { time: Duration::ZERO, ..Limits::default() };
    assert!(pages(&many, none).unwrap_err().contains("takes more than"));
    for damaged in [&b"%PDF-1.4"[..], b"", b"%PDF-1.4\ntrailer<</Root 1 0 R>>\nstartxref\n99999999999\n%%EOF"]
    {
        assert_eq!(pages(damaged, Limits::default()), Err("it is damaged, or no PDF".into()));
    }
}

/// Runs in time for whatever bytes: cut off anywhere, and with bytes and numbers changed.
#[test]
fn no_damage_ends_the_process() {
    let tries = std::env::var("WEFT_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut state = 0x9e37_79b9_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let small = made(&[
        "BT /F 12 Tf 50 700 Td (Some words) Tj 1 0 0 1 9 9 Tm [(a) 3 (b)] TJ ET",
        "q 1 0 0 1 0 0 cm Q",
    ]);
    let limits = Limits { time: Duration::from_secs(5), ..Limits::default() };
    let mut read = 0;
    for i in 0..tries {
        let mut bytes = if i % 3 == 0 { LOOMS.to_vec() } else { small.clone() };
        match i % 4 {
            0 => bytes.truncate(random(bytes.len())),
            1 => {
                for _ in 0..=random(20) {
                    let at = random(bytes.len());
                    bytes[at] = random(256) as u8;
                }
            }
            // Numbers become others: lengths, offsets, references, coordinates.
            _ => {
                for _ in 0..=random(4) {
                    let at = random(bytes.len());
                    if let Some(n) = bytes[at..].iter().position(u8::is_ascii_digit) {
                        let with = ["0", "1", "2", "3", "-1", "99999999999999999999", "1e38", "4294967295"];
                        let with = with[random(with.len())];
                        bytes.splice(at + n..=at + n, with.bytes());
                    }
                }
            }
        }
        let start = Instant::now();
        read += usize::from(pages(&bytes, limits).is_ok());
        assert!(start.elapsed() < Duration::from_secs(10), "try {i} took {:?}", start.elapsed());
    }
    assert!(read > tries / 20, "only {read} of {tries} were still PDF");
}

#[cfg(unix)]
#[test]
fn a_reader_apart_is_ended_when_it_takes_too_long() {
    use std::process::Command;

    use weft_documents::apart;

    let shell = |line: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        command
    };
    let second = Duration::from_millis(800);
    let whole = apart::pages(shell("cat >/dev/null; echo '[\"a\",\"b\"]'"), &vec![0; 1 << 20], second);
    assert_eq!(whole, Ok(vec!["a".into(), "b".into()]));
    let start = Instant::now();
    let slow = apart::pages(shell("exec sleep 30"), LOOMS, second);
    assert!(slow.unwrap_err().contains("takes more than") && start.elapsed() < Duration::from_secs(5));
    let told = apart::pages(shell("echo 'error: it is locked' >&2; exit 1"), LOOMS, second);
    assert_eq!(told, Err("it is locked".into()));
    let ended = apart::pages(shell("kill -SEGV $$"), LOOMS, second);
    assert!(ended.unwrap_err().contains("made to do harm"));
    assert!(apart::pages(shell("echo '[1'"), LOOMS, second).unwrap_err().contains("broke off"));
}
