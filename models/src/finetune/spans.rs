//! Which parts of a conversation the model writes, found from what its template renders.
//!
//! A template is a program, so nothing is assumed about its marks. An answer starts where the rendering of the
//! messages before it, with the opening of the assistant's turn, ends; it ends where the rendering up to and
//! with it ends. Where those are no beginnings of the whole (Qwen3 removes the thinking of earlier answers,
//! for one), the answer's content is replaced by a character that occurs nowhere, and what stays the same
//! around it shows its place.

use std::ops::Range;

use weft_formats::chat::{Error, Message, Options, Template};

/// A mark from the private use area, which no text holds.
const MARK: char = '\u{F8FF}';

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The whole.
    pub text: String,
    /// What the assistant writes, one span a message at most, ascending.
    pub spans: Vec<Span>,
}

/// What the assistant writes in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Which message it is, counted from 0.
    pub message: usize,
    /// Bytes of the rendered text. They go to the end of what the template puts behind the message, so that the
    /// end of the turn is in them.
    pub bytes: Range<usize>,
}

/// Renders a conversation and finds what the assistant writes in it. `options.now` should be given: the text
/// is rendered several times.
///
/// # Errors
/// The template refuses these messages, or fails.
pub fn render(template: &Template, messages: &[Message], options: &Options) -> Result<Rendered, Error> {
    render_from(template, messages, options, 0)
}

/// As [`render`], but looks for no answers in messages before `first`.
///
/// # Errors
/// As [`render`].
pub fn render_from(
    template: &Template,
    messages: &[Message],
    options: &Options,
    first: usize,
) -> Result<Rendered, Error> {
    let with = |messages: &[Message], add_generation_prompt: bool| {
        template.render(messages, &Options { add_generation_prompt, ..options.clone() })
    };
    let text = with(messages, false)?;
    let mut spans: Vec<Span> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        if message.role != "assistant" || i < first {
            continue;
        }
        let least = spans.last().map_or(0, |s| s.bytes.end);
        let turn = Turn { text: &text, messages, i, with: &with };
        let start = turn.start(least)?;
        let end = turn.end(start)?;
        if start < end {
            spans.push(Span { message: i, bytes: start..end });
        }
    }
    Ok(Rendered { text, spans })
}

/// One answer in a conversation.
struct Turn<'a> {
    text: &'a str,
    messages: &'a [Message],
    i: usize,
    with: &'a dyn Fn(&[Message], bool) -> Result<String, Error>,
}

impl Turn<'_> {
    /// Where the answer starts, at `least` or behind.
    fn start(&self, least: usize) -> Result<usize, Error> {
        let before = &self.messages[..self.i];
        // A template may refuse to render what no conversation ends with.
        let (prompt, bare) = match ((self.with)(before, true), (self.with)(before, false)) {
            (Ok(prompt), Ok(bare)) => (prompt, bare),
            _ => return Ok(self.content(self.i)?.start.max(least)),
        };
        // Also where the opening goes on with what this answer lacks, such as an empty thought.
        let common = common_prefix(&prompt, self.text);
        if common >= least && (common == prompt.len() || common >= bare.len()) {
            return Ok(common);
        }
        // The messages before are rendered otherwise in the whole: look for the opening in front of the content.
        let opening = &prompt[common_prefix(&prompt, &bare)..];
        let content = self.content(self.i)?.start.max(least);
        let least = match self.i.checked_sub(1) {
            Some(previous) => self.content(previous)?.end.max(least),
            None => least,
        };
        let found = match opening {
            "" => None,
            opening => self.text[..content].rfind(opening).map(|at| at + opening.len()),
        };
        Ok(found.filter(|&at| at >= least).unwrap_or(content))
    }

    /// Where the answer that starts at `start` ends, with what closes the turn.
    fn end(&self, start: usize) -> Result<usize, Error> {
        let until = &self.messages[..=self.i];
        if until.len() == self.messages.len() {
            return Ok(self.text.len());
        }
        let content = self.content(self.i)?.end.max(start);
        let Ok(last) = (self.with)(until, false) else { return Ok(content) };
        if last.len() > start && self.text.starts_with(&last) {
            return Ok(last.len());
        }
        // As the last message it is rendered otherwise: what closes it is what both have behind the content.
        let Ok(marked) = (self.with)(&self.marked(until, self.i), false) else { return Ok(content) };
        let tail = &last[replaced(&last, &marked).end..];
        Ok(content + common_prefix(tail, &self.text[content..]))
    }

    /// Where the content of message `j` is in the text: what changes when it is replaced.
    fn content(&self, j: usize) -> Result<Range<usize>, Error> {
        let marked = (self.with)(&self.marked(self.messages, j), false)?;
        Ok(replaced(self.text, &marked))
    }

    /// `messages` with the content of `j` replaced.
    fn marked(&self, messages: &[Message], j: usize) -> Vec<Message> {
        let mut messages = messages.to_vec();
        messages[j].content = MARK.to_string();
        messages
    }
}

/// The part of `text` that `marked` has something else for.
fn replaced(text: &str, marked: &str) -> Range<usize> {
    let start = common_prefix(text, marked);
    start..text.len() - common_suffix(text, marked).min(text.len() - start)
}

/// Bytes that two texts begin with, whole characters of both.
fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    (0..=same).rev().find(|&n| a.is_char_boundary(n)).unwrap_or(0)
}

/// Bytes that two texts end with, whole characters of both.
fn common_suffix(a: &str, b: &str) -> usize {
    let same = a.bytes().rev().zip(b.bytes().rev()).take_while(|(x, y)| x == y).count();
    (0..=same).rev().find(|&n| a.is_char_boundary(a.len() - n)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn messages(list: &[(&str, &str)]) -> Vec<Message> {
        list.iter().map(|(role, content)| Message::new(*role, *content)).collect()
    }

    fn options() -> Options {
        Options { now: Some(1_700_000_000), ..Options::default() }
    }

    /// What the assistant writes, as text.
    fn spans(source: &str, list: &[Message]) -> Vec<String> {
        let template = Template::new(source, "<s>", "</s>").unwrap();
        let r = render(&template, list, &options()).unwrap();
        assert_eq!(r.text, template.render(list, &options()).unwrap());
        r.spans.into_iter().map(|s| r.text[s.bytes].to_owned()).collect()
    }

    fn fixture(name: &str) -> Option<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/templates");
        std::fs::read_to_string(folder.join(name)).ok()
    }

    /// Four turns, one of them thought about.
    fn talk() -> Vec<Message> {
        messages(&[
            ("user", "Zwei plus zwei?"),
            ("assistant", "<think>\n2 + 2\n</think>\n\nVier. "),
            ("user", "plus drei?"),
            ("assistant", "Sieben"),
            ("user", "Sieben"),
            ("assistant", "<think>\nhm\n</think>\n\nJa."),
        ])
    }

    #[test]
    fn chatml() {
        let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        assert_eq!(
            spans(source, &talk()),
            [
                "<think>\n2 + 2\n</think>\n\nVier. <|im_end|>\n",
                "Sieben<|im_end|>\n",
                "<think>\nhm\n</think>\n\nJa.<|im_end|>\n"
            ]
        );
    }

    #[test]
    fn an_opening_that_the_answer_does_not_go_on_with() {
        // As DeepSeek R1: the opening has a thought that answers in the conversation lost.
        let source = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<U>{{ m.content }}\
                      {% else %}<A>{{ m.content.split('</think>')[-1] }}<E>{% endif %}{% endfor %}\
                      {% if add_generation_prompt %}<A><think>\n{% endif %}";
        assert_eq!(spans(source, &talk()), ["\n\nVier. <E>", "Sieben<E>", "\n\nJa.<E>"]);
    }

    #[test]
    fn no_opening_and_an_end_between_turns_only() {
        let source = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]\
                      {% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}";
        let thought = " <think>\n2 + 2\n</think>\n\nVier.</s>";
        assert_eq!(spans(source, &talk())[..2], [thought, " Sieben</s>"]);
        let source = "{% for m in messages %}{{ m.content }}{% if not loop.last %}|{% endif %}{% endfor %}";
        // Nothing opens the turn, so that a prompt ends before the mark and the model writes it.
        assert_eq!(spans(source, &messages(&[("user", "a"), ("assistant", "b")])), ["|b"]);
    }

    #[test]
    fn a_conversation_that_the_assistant_opens() {
        let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
                      {% if add_generation_prompt %}<assistant>{% endif %}";
        let list = messages(&[("assistant", "Hi"), ("user", "a"), ("assistant", "b")]);
        assert_eq!(spans(source, &list), ["Hi\n", "b\n"]);
    }

    /// Every published template, on conversations with and without a system text, of one and of several turns:
    /// the spans hold the answers and what ends them, and nothing that others said.
    #[test]
    fn published_templates() {
        // Name, what ends a turn, takes a system text, keeps the thoughts of earlier and of last answers.
        let cases = [
            ("Qwen-Qwen3-0.6B.jinja", "<|im_end|>\n", true, false, true),
            ("Qwen-Qwen2.5-7B-Instruct.jinja", "<|im_end|>\n", true, true, true),
            ("HuggingFaceTB-SmolLM3-3B.jinja", "<|im_end|>\n", true, true, true),
            ("google-gemma-2-2b-it.jinja", "<end_of_turn>\n", false, true, true),
            ("meta-llama-Llama-3.1-8B-Instruct.jinja", "<|eot_id|>", true, true, true),
            ("meta-llama-Llama-3.2-3B-Instruct.jinja", "<|eot_id|>", true, true, true),
        ];
        for (name, end, system, keeps, keeps_last) in cases {
            let Some(source) = fixture(name) else {
                eprintln!("skipped: shared/fixtures/templates/{name} is not here");
                continue;
            };
            for first in [None, Some(Message::system("Sprich deutsch."))] {
                if first.is_some() && !system {
                    continue;
                }
                let list: Vec<Message> = first.into_iter().chain(talk()).collect();
                let got = spans(&source, &list);
                assert_eq!(got.len(), 3, "{name}: {got:?}");
                for (i, span) in got.iter().enumerate() {
                    assert!(span.ends_with(end), "{name}: {span:?}");
                    assert!(!span.contains("user") && !span.contains("plus"), "{name}: {span:?}");
                    let thought = i == 0 && keeps || i == 2 && keeps_last;
                    assert_eq!(
                        span.contains("<think>") && span.contains("</think>"),
                        thought,
                        "{name}: {got:?}"
                    );
                }
                let inner: Vec<&str> = got.iter().map(|s| s.strip_suffix(end).unwrap().trim()).collect();
                assert!(inner[0].ends_with("Vier."), "{name}: {inner:?}");
                assert_eq!(inner[1], "Sieben", "{name}");
                assert!(inner[2].ends_with("Ja."), "{name}: {inner:?}");
            }
        }
    }

    /// A tool is called between two answers: what it returns is not the assistant's.
    #[test]
    fn tools() {
        for (name, end) in [
            ("Qwen-Qwen3-0.6B.jinja", "<|im_end|>\n"),
            ("Qwen-Qwen2.5-7B-Instruct.jinja", "<|im_end|>\n"),
            ("meta-llama-Llama-3.1-8B-Instruct.jinja", "<|eot_id|>"),
        ] {
            let Some(source) = fixture(name) else {
                eprintln!("skipped: shared/fixtures/templates/{name} is not here");
                continue;
            };
            let mut call = Message::assistant("");
            let arguments = json!({"city": "Bonn"});
            let calls = json!([{"type": "function", "function": {"name": "wetter", "arguments": arguments}}]);
            call.extra.insert("tool_calls".to_owned(), calls);
            let mut list = vec![Message::user("Regnet es in Bonn?"), call];
            list.push(Message::new("tool", "Schauer"));
            list.extend(messages(&[("assistant", "Ja, etwas."), ("user", "Danke"), ("assistant", "Gern.")]));
            for until in [4, 6] {
                let got = spans(&source, &list[..until]);
                assert_eq!(got.len(), until / 2, "{name}: {got:?}");
                assert!(got[0].contains("wetter") && got[0].contains("Bonn"), "{name}: {got:?}");
                assert!(got[1].contains("Ja, etwas."), "{name}: {got:?}");
                for span in &got {
                    assert!(span.ends_with(end), "{name}: {span:?}");
                    assert!(!span.contains("Schauer") && !span.contains("Regnet"), "{name}: {span:?}");
                }
            }
        }
    }
}
