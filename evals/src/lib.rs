//! Published tests of language models: reading them, asking them, scoring with intervals, and `genesis`, which makes
//! training data from what a student gets wrong.
//!
//! Nothing here knows of a GPU. Who answers is behind two traits, [`Generate`] and [`Score`], which a model of ours and
//! an endpoint over HTTP implement alike.

pub mod ask;
pub mod columns;
pub mod endpoint;
mod error;
pub mod exam;
pub mod genesis;
pub mod hash;
pub mod healthbench;
pub mod journal;
pub mod judge;
pub mod overlap;
pub mod question;
pub mod records;
pub mod report;
pub mod stats;
pub mod suites;

pub use ask::{Answer, Generate, Item, Job, Score, Scored};
pub use error::{Error, Result};

/// The first JSON object in a text that may have words or a fence around it.
pub(crate) fn json_in(text: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    let starts = text.match_indices('{').take(64);
    starts.map(|(at, _)| &text[at..]).find_map(|rest| {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter();
        match values.next() {
            Some(Ok(serde_json::Value::Object(map))) => Some(map),
            _ => None,
        }
    })
}
