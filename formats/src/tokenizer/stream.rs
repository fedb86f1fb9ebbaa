//! Decoding token by token.

use super::Tokenizer;

/// Turns ids into text as they arrive, holding back the bytes of an unfinished character.
///
/// The pieces and [`StreamDecoder::finish`] together are exactly
/// [`Tokenizer::decode`] of all the ids.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    special: bool,
    /// Whether the next text is the first, whose added space is dropped.
    at_start: bool,
    pending: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, special: bool) -> Self {
        let at_start = tokenizer.drops_first_space();
        StreamDecoder { tokenizer, special, at_start, pending: Vec::new() }
    }

    /// Decodes as the continuation of text that came before: keeps a leading space that
    /// would otherwise count as the one that encoding adds.
    pub fn continuing(mut self) -> Self {
        self.at_start = false;
        self
    }

    /// Takes one id and returns the whole characters that are now complete, perhaps none.
    /// An id outside the vocabulary adds nothing. Bytes that are not UTF-8 become U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        self.tokenizer.append_piece(id, self.special, &mut self.at_start, &mut self.pending);
        let mut out = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(s) => {
                    out.push_str(s);
                    rest = &[];
                }
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    out.push_str(std::str::from_utf8(good).unwrap_or_default());
                    rest = bad;
                    if let Some(n) = e.error_len() {
                        out.push(char::REPLACEMENT_CHARACTER);
                        rest = &bad[n..];
                        continue;
                    }
                }
            }
            break;
        }
        self.pending = rest.to_vec();
        out
    }

    /// Ends the stream: what is left of an unfinished character, as U+FFFD, or nothing.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
