//! What messages say is text: the name of a control token in one of them is spelled out, and opens no turn.

use std::borrow::Cow;

use super::{Error, Message, Options, Template};
use crate::tokenizer::Tokenizer;

/// Characters that no text uses: one of them marks places where a text may not be read as a control token.
const MARKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// The messages with a mark in the middle of each control token that one of them spells, and that mark, for
/// [`encode_marked`]; the messages themselves where there is none.
pub fn marked<'a>(messages: &'a [Message], tokenizer: &Tokenizer) -> (Cow<'a, [Message]>, Option<char>) {
    // Few messages spell a token, and the names of most begin with one of these.
    let suspect =
        |m: &Message| m.content.contains(['<', '[', '|']) || m.content.contains(|c| MARKS.contains(&c));
    if !messages.iter().any(suspect) {
        return (messages.into(), None);
    }
    let used = |c: &char| !messages.iter().any(|m| m.content.contains(*c));
    let Some(mark) = MARKS.clone().find(used) else { return (messages.into(), None) };
    let mut marked = false;
    let mut all = messages.to_vec();
    for m in &mut all {
        let ids = tokenizer.encode(&m.content, true);
        let mut names: Vec<&str> = ids
            .into_iter()
            .filter(|&id| tokenizer.is_control(id))
            .filter_map(|id| tokenizer.token_text(id))
            .filter(|name| m.content.contains(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let at = name.chars().next().map_or(0, char::len_utf8);
            m.content = m.content.replace(name, &format!("{}{mark}{}", &name[..at], &name[at..]));
            marked = true;
        }
    }
    if marked { (all.into(), Some(mark)) } else { (messages.into(), None) }
}

/// A text that was rendered of marked messages, without the marks.
pub fn unmarked(text: &str) -> String {
    text.replace(|c| MARKS.contains(&c), "")
}

/// The tokens of a text that was rendered of marked messages: none reaches over a mark.
pub fn encode_marked(text: &str, mark: Option<char>, tokenizer: &Tokenizer) -> Vec<u32> {
    let Some(mark) = mark else { return tokenizer.encode(text, true) };
    let (mut plain, mut cuts) = (String::with_capacity(text.len()), Vec::new());
    for part in text.split(mark) {
        plain += part;
        cuts.push(plain.len());
    }
    cuts.pop();
    tokenizer.encode_cut(&plain, &cuts).concat()
}

impl Template {
    /// The tokens of a conversation. What its messages say is text: the name of a control token in them opens no turn.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn tokens(
        &self,
        messages: &[Message],
        options: &Options,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, Error> {
        let (messages, mark) = marked(messages, tokenizer);
        Ok(encode_marked(&self.render(&messages, options)?, mark, tokenizer))
    }
}
