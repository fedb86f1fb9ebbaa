//! Training data: records of JSON or Parquet, or plain text, to token ids with their labels, and examples to batches.
//!
//! `read` looks into a file and takes it apart into records, `record` says what a record means, `conversation`
//! turns what was said into tokens.

mod conversation;
mod read;
mod record;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use weft_formats::chat::Template;
use weft_formats::tokenizer::Tokenizer;

use crate::train::{Batch, IGNORE};

/// What is wrong with a data set; one line that names the file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum DataError {
    #[error("{file}: {}", cause.to_string().split(" (os error").next().unwrap_or("").to_lowercase())]
    Io { file: String, cause: std::io::Error },
    #[error("{file}: {what}")]
    File { file: String, what: String },
    /// `place` is "line 3" or "record 3".
    #[error("{file}: {place}: {what}")]
    Record { file: String, place: String, what: String },
    #[error("{file}: holds no examples")]
    Empty { file: String },
    #[error("{file}: not one of its {examples} examples has a token to learn: {why}")]
    Unsupervised { file: String, examples: usize, why: &'static str },
    #[error(
        "{file}: {place}: {tokens} tokens are more than the context of {context}; raise --ctx, or let --overlong truncate or drop"
    )]
    Overlong { file: String, place: String, tokens: usize, context: u32 },
    #[error("{file}: all of its {examples} examples are longer than the context of {context}")]
    AllDropped { file: String, examples: usize, context: u32 },
}

impl DataError {
    /// Where in the file it is, such as "line 3", where it is about one record.
    pub fn place(&self) -> Option<&str> {
        match self {
            DataError::Record { place, .. } | DataError::Overlong { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The sentence without the name of the file and the place.
    pub fn what(&self) -> String {
        let all = self.to_string();
        let (DataError::Io { file, .. }
        | DataError::File { file, .. }
        | DataError::Record { file, .. }
        | DataError::Empty { file }
        | DataError::Unsupervised { file, .. }
        | DataError::Overlong { file, .. }
        | DataError::AllDropped { file, .. }) = self;
        let rest = all.strip_prefix(file.as_str()).and_then(|r| r.strip_prefix(": ")).unwrap_or(&all);
        let place = self.place().map(|p| format!("{p}: ")).unwrap_or_default();
        rest.strip_prefix(&place).unwrap_or(rest).to_owned()
    }
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
    /// That of the model.
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
    /// Keys of records and messages that are left out; any other that nothing here reads is an error.
    pub ignore_keys: &'a [String],
}

impl<'a> Reading<'a> {
    /// At most 512 tokens an example, of which the assistant's are learnt; the oldest of longer ones go.
    pub fn new(tokenizer: &'a Tokenizer, template: &'a Template) -> Reading<'a> {
        let (learn, overlong) = (Learn::default(), Overlong::default());
        Reading { tokenizer, template, context: 512, learn, overlong, now: 0, ignore_keys: &[] }
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
    /// Nulls within the arguments of tool calls, left out because tables fill them in.
    pub nulls: usize,
    /// What the records were read as, in the order in which each came first.
    pub forms: Vec<&'static str>,
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
            (self.nulls, "nulls within arguments of tool calls left out, as tables fill them in"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        match self.forms.is_empty() {
            true => Ok(()),
            false => write!(f, "; read as {}", self.forms.join(" and ")),
        }
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

impl Data {
    /// Reads a file. What it is shows in its first bytes and its name: a Parquet table, one JSON array of records,
    /// records of JSON one after the other, or plain text, which is cut into pieces of the context's length.
    /// A record has `messages`; `conversations` as ShareGPT has them; `prompt` and `completion`; `instruction`,
    /// `input` and `output` as Alpaca has them; or `text`.
    ///
    /// # Errors
    /// A record that is none of these, with its place; a key that nothing reads; a set without any example to
    /// learn from.
    pub fn read(path: &Path, how: &Reading<'_>) -> Result<Data, DataError> {
        read::file(path, how, &mut |_, _| ())
    }

    /// As [`Data::read`], which tells `progress` from time to time how many bytes of how many are read.
    ///
    /// # Errors
    /// As [`Data::read`].
    pub fn read_with(
        path: &Path,
        how: &Reading<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Data, DataError> {
        read::file(path, how, progress)
    }

    /// As [`Data::read`], of the bytes of a file of this name. What is wrong with one record does not hide what is
    /// wrong with the next: errors come together, up to `most` and one.
    ///
    /// # Errors
    /// As [`Data::read`].
    pub fn check(name: &str, bytes: Vec<u8>, how: &Reading<'_>, most: usize) -> Result<Data, Vec<DataError>> {
        read::check(name, bytes, how, most)
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
