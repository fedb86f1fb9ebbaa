//! Files as text.

use serde::{Deserialize, Serialize};

use crate::{Error, MOST_BYTES, Result};

/// Bytes of a document's text at most.
const MOST_TEXT: usize = 32 << 20;

/// What kind of file a document came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Plain text, or anything else that is written in letters.
    Text,
    /// Markdown, whose headings part it.
    Markdown,
    /// PDF.
    Pdf,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Markdown => "markdown",
            Kind::Pdf => "pdf",
        }
    }
}

/// The text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it came from.
    pub kind: Kind,
    /// All of its text. Lines end in \n.
    pub text: String,
    /// Where each page begins in the text; empty where there are no pages.
    pub pages: Vec<usize>,
}

impl Document {
    /// The page at a place of the text, from 1 on.
    pub fn page(&self, at: usize) -> Option<u32> {
        match self.pages.partition_point(|start| *start <= at) {
            0 => None,
            n => Some(n as u32),
        }
    }
}

/// What gives the text of each page of a PDF file, or says why it cannot.
pub type PdfReader<'a> = &'a (dyn Fn(&[u8]) -> std::result::Result<Vec<String>, String> + Sync);

/// Reads a file by its content and the end of its name.
///
/// # Errors
/// [`Error::Unreadable`]: too large, no text, or a PDF that `pdf` does not read.
pub fn read(name: &str, bytes: &[u8], pdf: PdfReader<'_>) -> Result<Document> {
    let fail = |why: String| Error::Unreadable { name: name.into(), why };
    if bytes.len() > MOST_BYTES {
        return Err(fail(format!(
            "it has {} MiB; at most {} are taken",
            bytes.len() >> 20,
            MOST_BYTES >> 20
        )));
    }
    let document = if is_pdf(bytes) {
        let mut document = Document { kind: Kind::Pdf, text: String::new(), pages: Vec::new() };
        for page in pdf(bytes).map_err(fail)? {
            document.pages.push(document.text.len());
            document.text += page.trim_end();
            document.text += "\n\n";
        }
        document
    } else {
        let text = decode(bytes).ok_or_else(|| {
            fail("it is neither text (UTF-8 or UTF-16) nor PDF, which are what is read here".into())
        })?;
        let end = name.rsplit_once('.').map(|(_, end)| end.to_lowercase()).unwrap_or_default();
        let kind = if ["md", "markdown", "mdx"].contains(&&*end) { Kind::Markdown } else { Kind::Text };
        Document { kind, text, pages: Vec::new() }
    };
    if document.text.len() > MOST_TEXT {
        return Err(fail(format!(
            "its text has {} MiB; at most {} are taken",
            document.text.len() >> 20,
            MOST_TEXT >> 20
        )));
    }
    if document.text.trim().is_empty() {
        return Err(fail(match document.kind {
            Kind::Pdf => {
                "there is no text in it; pages that were scanned as pictures are not read here".into()
            }
            _ => "there is no text in it".into(),
        }));
    }
    Ok(document)
}

/// Whether a file says that it is a PDF, which it may do a little behind its beginning.
pub fn is_pdf(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(1024)].windows(5).any(|w| w == b"%PDF-")
}

fn decode(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}').to_owned(),
    };
    // A file of bytes that happens to be UTF-8 has zeros.
    (!text.contains('\0')).then(|| text.replace("\r\n", "\n").replace('\r', "\n"))
}

fn utf16(bytes: &[u8], word: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let words = pairs.iter().map(|pair| word(*pair));
    rest.is_empty().then(|| char::decode_utf16(words).collect::<std::result::Result<_, _>>().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Kind, read};
    use crate::MOST_BYTES;

    #[test]
    fn files_are_told_apart() {
        let two = |_: &[u8]| Ok(vec!["first page".to_owned(), "second\n".to_owned()]);
        let text = read("a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree", &two).unwrap();
        assert_eq!((text.kind, &*text.text, text.page(3)), (Kind::Text, "one\ntwo\nthree", None));
        assert_eq!(read("A.MD", b"# x", &two).unwrap().kind, Kind::Markdown);
        assert_eq!(read("a", b"\xff\xfeh\0i\0", &two).unwrap().text, "hi");
        assert_eq!(read("a", b"\xfe\xff\0h\0i", &two).unwrap().text, "hi");
        let pdf = read("a.txt", b"\n%PDF-1.7", &two).unwrap();
        assert_eq!((pdf.kind, &*pdf.text), (Kind::Pdf, "first page\n\nsecond\n\n"));
        assert_eq!((pdf.page(0), pdf.page(11), pdf.page(12)), (Some(1), Some(1), Some(2)));
        for (bytes, why) in [
            (&b"\xff\xfe\0"[..], "neither text"),
            (b"a\0b", "neither text"),
            (b"\xc3\x28", "neither text"),
            (b" \n", "no text in it"),
            (&vec![b'a'; MOST_BYTES + 1], "at most 64"),
        ] {
            let e = read("x", bytes, &two).unwrap_err().to_string();
            assert!(e.starts_with("x: ") && e.contains(why), "{e}");
        }
        let e = read("x.pdf", b"%PDF-1.4", &|_| Err("it is damaged".into())).unwrap_err();
        assert_eq!(e.to_string(), "x.pdf: it is damaged");
        assert!(
            read("x.pdf", b"%PDF-1.4", &|_| Ok(vec![" ".into()]))
                .unwrap_err()
                .to_string()
                .contains("scanned")
        );
    }
}
