//! Training data: lines of JSON or plain text to token ids with their labels, and examples to batches.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value as Json};
use weft_formats::chat::{self, Message, Template};
use weft_formats::tokenizer::Tokenizer;

use super::spans::render;
use crate::train::{Batch, IGNORE};

/// What is wrong with a data set; one line that names the file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum DataError {
    #[error("{file}: {}", cause.to_string().split(" (os error").next().unwrap_or("").to_lowercase())]
    Io { file: String, cause: std::io::Error },
    #[error("{file}: line {line}: {what}")]
    Line { file: String, line: usize, what: String },
    #[error("{file}: holds no examples")]
    Empty { file: String },
    #[error("{file}: not one of its {examples} examples has a token to learn: {why}")]
    Unsupervised { file: String, examples: usize, why: &'static str },
    #[error(
        "{file}: line {line}: {tokens} tokens are more than the context of {context}; raise --ctx, or let --overlong truncate or drop"
    )]
    Overlong { file: String, line: usize, tokens: usize, context: u32 },
    #[error("{file}: all of its {examples} examples are longer than the context of {context}")]
    AllDropped { file: String, examples: usize, context: u32 },
}

/// Which tokens of a conversation are learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Learn {
    /// What the assistant writes, its end of turn included.
    #[default]
    Assistant,
    /// Every token but the first.
    All,
}

/// What becomes of a conversation that is longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlong {
    /// Its oldest exchanges go, the system text stays; if one exchange alone is too long, its first tokens go.
    #[default]
    Truncate,
    /// It is left out.
    Drop,
    /// It is an error.
    Error,
}

/// How text becomes examples.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Of the model.
    pub tokenizer: &'a Tokenizer,
    /// Renders conversations.
    pub template: &'a Template,
    /// Most tokens of an example.
    pub context: u32,
    /// Which tokens are learnt.
    pub learn: Learn,
    /// What becomes of longer ones.
    pub overlong: Overlong,
    /// Seconds since 1970 for templates that print the date: the same data must give the same tokens.
    pub now: i64,
}

impl<'a> Reading<'a> {
    /// At most 512 tokens an example, of which the assistant's are learnt; the oldest of longer ones go.
    pub fn new(tokenizer: &'a Tokenizer, template: &'a Template) -> Reading<'a> {
        let (learn, overlong) = (Learn::default(), Overlong::default());
        Reading { tokenizer, template, context: 512, learn, overlong, now: 0 }
    }
}

/// One sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Tokens.
    pub ids: Vec<u32>,
    /// For each the one that follows, or [`IGNORE`] where that is not learnt.
    pub labels: Vec<u32>,
}

impl Example {
    /// From a text's tokens with a flag for those that are learnt. The last is no input: nothing follows it.
    fn new(tokens: &[(u32, bool)]) -> Example {
        let inputs = tokens.len().saturating_sub(1);
        Example {
            ids: tokens[..inputs].iter().map(|t| t.0).collect(),
            labels: tokens.iter().skip(1).map(|&(id, learnt)| if learnt { id } else { IGNORE }).collect(),
        }
    }

    /// Tokens that are learnt.
    pub fn supervised(&self) -> usize {
        self.labels.iter().filter(|&&l| l != IGNORE).count()
    }
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records in the file.
    pub records: usize,
    /// Examples to train on.
    pub examples: usize,
    /// Their tokens.
    pub tokens: u64,
    /// Tokens that are learnt.
    pub supervised: u64,
    /// Tokens of the longest example.
    pub longest: usize,
    /// Conversations that were truncated.
    pub truncated: usize,
    /// Conversations that were left out because they are longer than the context.
    pub dropped: usize,
    /// Records without a token to learn, left out.
    pub unsupervised: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} example{}, {} tokens, {} of them learnt, the longest has {}",
            self.examples,
            if self.examples == 1 { "" } else { "s" },
            self.tokens,
            self.supervised,
            self.longest
        )?;
        for (count, what) in [
            (self.truncated, "truncated to the context"),
            (self.dropped, "dropped, longer than the context"),
            (self.unsupervised, "left out, without a token to learn"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// A data set in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// How it was read.
    pub counts: Counts,
}

/// A file's records as they come.
struct Reader<'a> {
    file: String,
    how: &'a Reading<'a>,
    data: Data,
}

/// What a line holds.
enum Record {
    Chat(Vec<Message>, Option<Json>),
    Text(String),
}

/// The longest line that is read.
const MAX_LINE: u64 = 1 << 28;

impl Data {
    /// Reads a file: lines of JSON with `messages`, `prompt` and `completion`, or `text` if its name ends in
    /// .jsonl, .ndjson or .json, else plain text. Texts longer than the context are cut into pieces.
    ///
    /// # Errors
    /// A line that is no such record, with its number; a set without any example to learn from.
    pub fn read(path: &Path, how: &Reading<'_>) -> Result<Data, DataError> {
        let file = path.display().to_string();
        let io = |cause| DataError::Io { file: file.clone(), cause };
        let opened = std::fs::File::open(path).map_err(io)?;
        let lines = path.extension().is_some_and(|e| ["jsonl", "ndjson", "json"].iter().any(|j| e == *j));
        let mut reader = Reader { file: file.clone(), how, data: Data::default() };
        let mut input = BufReader::with_capacity(1 << 20, opened);
        if lines {
            let mut line = Vec::new();
            for number in 1.. {
                line.clear();
                let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut line).map_err(io)?;
                if read == 0 {
                    break;
                }
                reader.line(number, &line)?;
            }
        } else {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes).map_err(io)?;
            let text = String::from_utf8(bytes).map_err(|e| {
                let at = e.utf8_error().valid_up_to();
                let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
                DataError::Line { file: file.clone(), line, what: "is not UTF-8".to_owned() }
            })?;
            if !text.trim().is_empty() {
                reader.data.counts.records += 1;
                reader.text(&text);
            }
        }
        reader.finish()
    }

    /// Every `1 / share`-th example, spread over the set by `seed`, apart from the rest; at least one on both
    /// sides where there are two.
    pub fn split(mut self, share: f64, seed: u64) -> (Data, Data) {
        let order = shuffled(self.examples.len(), seed, u64::MAX);
        let most = self.examples.len().saturating_sub(1);
        let count = ((self.examples.len() as f64 * share).round() as usize).clamp(1.min(most), most);
        let held: std::collections::BTreeSet<usize> = order[..count].iter().copied().collect();
        let (mut rest, mut out) = (Vec::new(), Vec::new());
        for (i, e) in std::mem::take(&mut self.examples).into_iter().enumerate() {
            if held.contains(&i) { out.push(e) } else { rest.push(e) }
        }
        let counted = |examples: Vec<Example>, from: Counts| {
            let mut data = Data { examples, counts: from };
            data.count();
            data
        };
        (counted(rest, self.counts), counted(out, Counts::default()))
    }

    fn count(&mut self) {
        let c = &mut self.counts;
        c.examples = self.examples.len();
        c.tokens = self.examples.iter().map(|e| e.ids.len() as u64).sum();
        c.supervised = self.examples.iter().map(|e| e.supervised() as u64).sum();
        c.longest = self.examples.iter().map(|e| e.ids.len()).max().unwrap_or(0);
    }

    /// A number that other tokens or labels change.
    pub fn fingerprint(&self) -> u64 {
        let words = self.examples.iter().flat_map(|e| {
            let lengths = [e.ids.len() as u32];
            lengths.into_iter().chain(e.ids.iter().copied()).chain(e.labels.iter().copied())
        });
        words.fold(0xCBF2_9CE4_8422_2325, |hash, word| mix(hash ^ u64::from(word)))
    }

    /// The batches of an epoch: indices of examples, shuffled by seed and epoch. A batch has `batch` examples;
    /// with `pack` as many as make up `batch` times `context` tokens.
    pub fn epoch(&self, seed: u64, epoch: u64, batch: u32, pack: Option<u32>) -> Vec<Vec<usize>> {
        let order = shuffled(self.examples.len(), seed, epoch);
        let Some(context) = pack else {
            return order.chunks(batch as usize).map(<[usize]>::to_vec).collect();
        };
        let room = batch as usize * context as usize;
        let mut batches = vec![Vec::new()];
        let mut tokens = 0;
        for i in order {
            let length = self.examples[i].ids.len();
            if tokens > 0 && tokens + length > room {
                batches.push(Vec::new());
                tokens = 0;
            }
            tokens += length;
            batches.last_mut().expect("one").push(i);
        }
        batches
    }

    /// The most tokens that a batch of any epoch can have.
    pub fn most_tokens(&self, batch: u32, pack: Option<u32>) -> u32 {
        let mut lengths: Vec<usize> = self.examples.iter().map(|e| e.ids.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let tokens: usize = match pack {
            None => lengths.iter().take(batch as usize).sum(),
            Some(context) => (batch as usize * context as usize).min(lengths.iter().sum()),
        };
        tokens.try_into().unwrap_or(u32::MAX)
    }

    /// These examples one after the other.
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for e in indices.iter().map(|&i| &self.examples[i]) {
            batch.ids.extend(&e.ids);
            batch.labels.extend(&e.labels);
            batch.sequences.push(e.ids.len() as u32);
        }
        batch
    }
}

impl Reader<'_> {
    fn wrong(&self, line: usize, what: impl Into<String>) -> DataError {
        DataError::Line { file: self.file.clone(), line, what: what.into() }
    }

    fn line(&mut self, number: usize, bytes: &[u8]) -> Result<(), DataError> {
        let file = self.file.clone();
        let wrong = |what: String| DataError::Line { file: file.clone(), line: number, what };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".to_owned()))?;
        let text = if number == 1 { text.trim_start_matches('\u{FEFF}') } else { text };
        if text.trim().is_empty() {
            return Ok(());
        }
        let json = match serde_json::from_str(text) {
            Ok(Json::Object(map)) => map,
            Ok(_) => return Err(wrong("is not a JSON object".to_owned())),
            Err(e) => return Err(wrong(format!("is not JSON ({})", at_column(&e)))),
        };
        self.data.counts.records += 1;
        match record(json).map_err(wrong)? {
            Record::Text(text) => self.text(&text),
            Record::Chat(messages, tools) => self.chat(number, messages, tools)?,
        }
        Ok(())
    }

    /// A text to learn as a whole, with the end of the text behind it; cut where it is longer than the context.
    fn text(&mut self, text: &str) {
        let tokenizer = self.how.tokenizer;
        let mut ids = tokenizer.encode_prompt(text);
        if let Some(eos) = tokenizer.eos().filter(|eos| ids.last() != Some(eos)) {
            ids.push(eos);
        }
        let tokens: Vec<_> = ids.into_iter().map(|id| (id, true)).collect();
        let context = self.how.context as usize;
        let mut start = 0;
        while start + 1 < tokens.len() {
            // One token more than the context: the label of the last.
            let end = (start + context + 1).min(tokens.len());
            self.push(&tokens[start..end]);
            start += context;
        }
    }

    fn chat(
        &mut self,
        line: usize,
        mut messages: Vec<Message>,
        tools: Option<Json>,
    ) -> Result<(), DataError> {
        let context = self.how.context;
        let options = chat::Options { tools, now: Some(self.how.now), ..chat::Options::default() };
        let mut truncated = false;
        let tokens = loop {
            let tokens = self.tokens(&messages, &options).map_err(|e| self.wrong(line, e.to_string()))?;
            // The last is a label only.
            let length = tokens.len().saturating_sub(1);
            if length <= context as usize {
                break tokens;
            }
            match self.how.overlong {
                Overlong::Error => {
                    let file = self.file.clone();
                    return Err(DataError::Overlong { file, line, tokens: length, context });
                }
                Overlong::Drop => {
                    self.data.counts.dropped += 1;
                    return Ok(());
                }
                Overlong::Truncate => {}
            }
            truncated = true;
            let first = messages.iter().position(|m| m.role != "system").unwrap_or(messages.len());
            let next = (first + 1..messages.len()).find(|&i| messages[i].role == "user");
            match next {
                Some(next) => drop(messages.drain(first..next)),
                None => break tokens[tokens.len() - context as usize - 1..].to_vec(),
            }
        };
        self.data.counts.truncated += usize::from(truncated);
        self.push(&tokens);
        Ok(())
    }

    /// The tokens of a conversation, with whether they are learnt.
    fn tokens(&self, messages: &[Message], options: &chat::Options) -> Result<Vec<(u32, bool)>, chat::Error> {
        let tokenizer = self.how.tokenizer;
        let rendered = render(self.how.template, messages, options)?;
        let cuts: Vec<usize> = rendered.spans.iter().flat_map(|s| [s.start, s.end]).collect();
        let pieces = tokenizer.encode_cut(&rendered.text, &cuts);
        let mut tokens = Vec::new();
        for (i, mut piece) in pieces.into_iter().enumerate() {
            let assistant = i % 2 == 1;
            // A model stops at the end of its turn; what a template puts behind that it never writes.
            let mut behind = Vec::new();
            if assistant && let Some(last) = piece.iter().rposition(|&id| tokenizer.is_eog(id)) {
                let rest = tokenizer.decode(&piece[last + 1..], true);
                if rest.trim().is_empty() {
                    behind = piece.split_off(last + 1);
                }
            }
            let learnt = assistant || self.how.learn == Learn::All;
            tokens.extend(piece.into_iter().map(|id| (id, learnt)));
            tokens.extend(behind.into_iter().map(|id| (id, self.how.learn == Learn::All)));
        }
        Ok(tokens)
    }

    fn push(&mut self, tokens: &[(u32, bool)]) {
        let example = Example::new(tokens);
        match example.supervised() {
            0 => self.data.counts.unsupervised += 1,
            _ => self.data.examples.push(example),
        }
    }

    fn finish(mut self) -> Result<Data, DataError> {
        self.data.count();
        let c = &self.data.counts;
        let (file, examples) = (self.file, c.records);
        match c {
            _ if c.examples > 0 => Ok(self.data),
            Counts { records: 0, .. } => Err(DataError::Empty { file }),
            Counts { dropped, .. } if *dropped == examples => {
                Err(DataError::AllDropped { file, examples, context: self.how.context })
            }
            _ => {
                let why = match self.how.learn {
                    Learn::Assistant => {
                        "no assistant message, or none that the template shows (--loss all learns every token)"
                    }
                    Learn::All => "they are empty",
                };
                Err(DataError::Unsupervised { file, examples, why })
            }
        }
    }
}

/// serde_json counts lines of its own.
fn at_column(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} at column {}", e.column())
}

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

fn record(mut json: Map<String, Json>) -> Result<Record, String> {
    let string = |value: Option<Json>, key: &str| match value {
        Some(Json::String(s)) => Ok(s),
        Some(other) => Err(format!("{key:?} is {}, not a text", clip(&other))),
        None => Err(format!("{key:?} is missing")),
    };
    let tools = json.remove("tools").filter(|t| !t.is_null());
    if let Some(list) = json.remove("messages") {
        let Json::Array(list) = list else {
            return Err(format!("\"messages\" is {}, not a list", clip(&list)));
        };
        let messages: Result<Vec<_>, _> =
            list.into_iter().enumerate().map(|(i, m)| message(i + 1, m)).collect();
        let messages = messages?;
        return match messages.is_empty() {
            true => Err("\"messages\" is empty".to_owned()),
            false => Ok(Record::Chat(messages, tools)),
        };
    }
    if let Some(prompt) = json.remove("prompt") {
        let prompt = string(Some(prompt), "prompt")?;
        let completion = string(json.remove("completion"), "completion")?;
        return Ok(Record::Chat(vec![Message::user(prompt), Message::assistant(completion)], tools));
    }
    match json.remove("text") {
        Some(text) => Ok(Record::Text(string(Some(text), "text")?)),
        None => Err("has neither \"messages\", nor \"prompt\" and \"completion\", nor \"text\"".to_owned()),
    }
}

/// Message `number`, counted from 1.
fn message(number: usize, json: Json) -> Result<Message, String> {
    let Json::Object(mut map) = json else {
        return Err(format!("message {number} is {}, not an object", clip(&json)));
    };
    let role = match map.remove("role") {
        Some(Json::String(role)) if ROLES.contains(&role.as_str()) => role,
        Some(role) => {
            return Err(format!(
                "message {number} has the role {} (known: {})",
                clip(&role),
                ROLES.join(", ")
            ));
        }
        None => return Err(format!("message {number} has no \"role\"")),
    };
    let content = match map.remove("content") {
        Some(Json::String(text)) => text,
        // Beside tool calls.
        None | Some(Json::Null) if map.contains_key("tool_calls") => String::new(),
        Some(Json::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text"), Some(t)) => text.push_str(t),
                    _ => {
                        return Err(format!("message {number} has a part that is not text: {}", clip(&part)));
                    }
                }
            }
            text
        }
        None => return Err(format!("message {number} has no \"content\"")),
        Some(other) => {
            return Err(format!("the content of message {number} is {}, not a text", clip(&other)));
        }
    };
    Ok(Message { role, content, extra: map })
}

fn clip(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The finaliser of SplitMix64 on the next state.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 0 to n - 1, shuffled (Fisher and Yates) by a generator of seed and stream.
fn shuffled(n: usize, seed: u64, stream: u64) -> Vec<usize> {
    let mut state = mix(seed ^ mix(stream));
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        state = mix(state);
        // The upper bits of a product: no bias that a data set could show.
        let j = ((u128::from(state) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use weft_formats::gguf::File;

    /// weft-mini's tokenizer and template.
    fn mini() -> (Tokenizer, Template) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/weft-mini.gguf");
        let file = File::open(Path::new(path)).unwrap();
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        let text = |id: Option<u32>| tokenizer.token_text(id.unwrap()).unwrap().to_owned();
        let eos = text(tokenizer.eos());
        let template = Template::from_metadata(file.metadata(), "", &eos).unwrap();
        (tokenizer, template)
    }

    struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn file(name: &str, content: &[u8]) -> Temporary {
        let path = std::env::temp_dir().join(format!("weft-data-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Temporary(path)
    }

    fn read(name: &str, content: &str, change: impl Fn(&mut Reading<'_>)) -> Result<Data, DataError> {
        let (tokenizer, template) = mini();
        let mut how = Reading {
            tokenizer: &tokenizer,
            template: &template,
            context: 64,
            learn: Learn::Assistant,
            overlong: Overlong::Truncate,
            now: 0,
        };
        change(&mut how);
        let file = file(name, content.as_bytes());
        Data::read(&file.0, &how)
    }

    /// The text of the learnt tokens.
    fn learnt(e: &Example) -> String {
        let ids: Vec<u32> = e.labels.iter().copied().filter(|l| *l != IGNORE).collect();
        mini().0.decode(&ids, true)
    }

    const TALK: &str = r#"{"messages": [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "The answer is 5."}, {"role": "user", "content": "And 4?"}, {"role": "assistant", "content": "The answer is 4."}]}"#;

    #[test]
    fn the_assistant_is_learnt_and_the_end_of_its_turn() {
        let data = read("talk.jsonl", TALK, |_| {}).unwrap();
        let (tokenizer, template) = mini();
        let e = &data.examples[0];
        let end = tokenizer.decode(&[tokenizer.eos().unwrap()], true);
        assert_eq!(learnt(e), format!("The answer is 5.{end}The answer is 4.{end}"));
        // The whole, as inference encodes it; what follows the last end of turn is no input.
        let json: Json = serde_json::from_str(TALK).unwrap();
        let messages: Vec<Message> = serde_json::from_value(json["messages"].clone()).unwrap();
        let text = template.render(&messages, &chat::Options::default()).unwrap();
        let whole = tokenizer.encode(&text, true);
        assert_eq!(e.ids, whole[..whole.len() - 1]);
        for (i, label) in e.labels.iter().enumerate() {
            assert!(*label == IGNORE || *label == whole[i + 1]);
        }
        let all = read("talk.jsonl", TALK, |r| r.learn = Learn::All).unwrap();
        assert_eq!(all.examples[0].ids, e.ids);
        assert_eq!(all.examples[0].labels, whole[1..]);
    }

    #[test]
    fn prompts_and_texts() {
        let lines = "{\"prompt\": \"What is 2 + 3?\", \"completion\": \"The answer is 5.\"}\n\n{\"text\": \"mass\"}\n";
        let data = read("mixed.jsonl", lines, |_| {}).unwrap();
        assert_eq!((data.counts.records, data.counts.examples), (2, 2));
        assert!(learnt(&data.examples[0]).starts_with("The answer is 5."));
        let end = mini().0.eos().unwrap();
        assert_eq!(data.examples[1].labels.last(), Some(&end));
        assert_eq!(data.examples[1].supervised(), data.examples[1].ids.len());
    }

    #[test]
    fn plain_text_is_cut_and_every_token_but_the_first_is_learnt_once() {
        let text = "the mass of the ball is 12 kg and it moves at 5 m/s. ".repeat(20);
        let data = read("plain.txt", &text, |_| {}).unwrap();
        assert!(data.examples.len() > 3 && data.counts.longest == 64);
        let tokens = mini().0.encode_prompt(&text);
        let labels: Vec<u32> = data.examples.iter().flat_map(|e| e.labels.clone()).collect();
        assert_eq!(labels[..tokens.len() - 1], tokens[1..]);
        assert_eq!(labels.len(), tokens.len());
        assert!(data.examples.iter().all(|e| e.ids.len() <= 64));
    }

    #[test]
    fn longer_than_the_context() {
        let full = read("talk.jsonl", TALK, |_| {}).unwrap();
        let length = full.examples[0].ids.len() as u32;
        assert_eq!(full.counts.truncated, 0);
        // Without its first exchange.
        let cut = read("talk.jsonl", TALK, |r| r.context = length - 1).unwrap();
        assert_eq!((cut.counts.truncated, cut.counts.examples), (1, 1));
        assert!(learnt(&cut.examples[0]).starts_with("The answer is 4."));
        assert!(cut.examples[0].ids.len() < length as usize - 5);
        // Not even one exchange: its end.
        let end = read("talk.jsonl", TALK, |r| r.context = 6).unwrap();
        assert_eq!(end.examples[0].ids, full.examples[0].ids[length as usize - 6..]);
        let dropped = read("talk.jsonl", TALK, |r| (r.context, r.overlong) = (6, Overlong::Drop));
        assert!(dropped.unwrap_err().to_string().contains("all of its 1 examples are longer"));
        let refused = read("talk.jsonl", TALK, |r| (r.context, r.overlong) = (6, Overlong::Error));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("line 1") && refused.contains("context of 6"), "{refused}");
        assert!(cut.counts.to_string().contains("1 truncated"), "{}", cut.counts);
    }

    #[test]
    fn bad_lines_are_told_with_their_number() {
        let refused = |line: &str| {
            let text = format!("{TALK}\n{line}\n");
            let e = read("bad.jsonl", &text, |_| {}).unwrap_err().to_string();
            assert!(e.contains("bad.jsonl: line 2: ") && !e.contains('\n'), "{e}");
            e
        };
        assert!(refused("{\"messages\": [").contains("is not JSON (EOF"));
        assert!(refused("[1]").contains("not a JSON object"));
        assert!(refused("{}").contains("has neither"));
        assert!(refused(r#"{"messages": []}"#).contains("is empty"));
        assert!(refused(r#"{"messages": "x"}"#).contains("not a list"));
        assert!(refused(r#"{"messages": [3]}"#).contains("message 1 is 3"));
        let bot = refused(r#"{"messages": [{"role": "bot", "content": "x"}]}"#);
        assert!(
            bot.contains("message 1 has the role \"bot\" (known: system, user, assistant, tool)"),
            "{bot}"
        );
        assert!(refused(r#"{"messages": [{"content": "x"}]}"#).contains("no \"role\""));
        assert!(refused(r#"{"messages": [{"role": "user"}]}"#).contains("no \"content\""));
        assert!(refused(r#"{"messages": [{"role": "user", "content": 7}]}"#).contains("is 7, not a text"));
        assert!(refused(r#"{"prompt": "x"}"#).contains("\"completion\" is missing"));
        assert!(refused(r#"{"text": 3}"#).contains("\"text\" is 3"));
        let e = read("empty.jsonl", "\n \n", |_| {}).unwrap_err().to_string();
        assert!(e.ends_with("empty.jsonl: holds no examples"), "{e}");
        let e = read("empty.txt", " \n", |_| {}).unwrap_err().to_string();
        assert!(e.ends_with("empty.txt: holds no examples"), "{e}");
    }

    #[test]
    fn examples_without_an_answer_are_counted() {
        let silent = r#"{"messages": [{"role": "user", "content": "Hello"}]}"#;
        let data = read("some.jsonl", &format!("{silent}\n{TALK}\n{silent}\n"), |_| {}).unwrap();
        assert_eq!((data.counts.examples, data.counts.unsupervised), (1, 2));
        let e = read("none.jsonl", silent, |_| {}).unwrap_err().to_string();
        assert!(e.contains("not one of its 1 examples has a token to learn"), "{e}");
        read("none.jsonl", silent, |r| r.learn = Learn::All).unwrap();
    }

    #[test]
    fn epochs_shuffle_by_seed_and_hold_everything_once() {
        let lines: String =
            (0..50).map(|i| format!("{{\"text\": \"mass {}\"}}\n", "kg ".repeat(i % 17))).collect();
        let data = read("many.jsonl", &lines, |_| {}).unwrap();
        let sorted = |batches: &[Vec<usize>]| {
            let mut all = batches.concat();
            all.sort_unstable();
            all
        };
        let first = data.epoch(7, 0, 4, None);
        assert_eq!(sorted(&first), (0..50).collect::<Vec<_>>());
        assert!(first[..12].iter().all(|b| b.len() == 4) && first[12].len() == 2);
        assert_eq!(first, data.epoch(7, 0, 4, None));
        assert_ne!(first, data.epoch(7, 1, 4, None));
        assert_ne!(first, data.epoch(8, 0, 4, None));
        let packed = data.epoch(7, 0, 2, Some(64));
        assert_eq!(sorted(&packed), (0..50).collect::<Vec<_>>());
        assert!(packed.len() < first.len() && packed.len() > 2);
        for (batches, pack, batch) in [(&first, None, 4), (&packed, Some(64), 2)] {
            let most = data.most_tokens(batch, pack);
            for b in batches {
                let b = data.batch(b);
                assert_eq!(b.sequences.iter().sum::<u32>() as usize, b.ids.len());
                assert_eq!(b.ids.len(), b.labels.len());
                assert!(b.ids.len() as u32 <= most);
            }
        }
        let (rest, held) = data.clone().split(0.1, 3);
        assert_eq!((rest.examples.len(), held.examples.len()), (45, 5));
        assert_ne!(rest.fingerprint(), data.fingerprint());
        assert_eq!(data.fingerprint(), data.clone().fingerprint());
    }
}
