//! /v1/embeddings and /v1/rerank, with vectors that are made of letters.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use weft_models::{Error, Result, Sequence};
use weft_server::engine::Vectors;

use crate::support::Server;

/// A text's vector counts its letters by their place in the alphabet modulo 4; a pair's score is what query and document
/// share.
pub(crate) struct Letters {
    pub(crate) reranker: bool,
}

impl Vectors for Letters {
    fn is_reranker(&self) -> bool {
        self.reranker
    }

    fn sequence(&self, text: &str) -> Result<Sequence> {
        Ok(text.bytes().map(u32::from).collect::<Vec<_>>().into())
    }

    fn pair(&self, query: &str, document: &str) -> Result<Sequence> {
        let shared = document.bytes().filter(|b| query.as_bytes().contains(b));
        Ok(shared.map(u32::from).collect::<Vec<_>>().into())
    }

    fn run(
        &mut self,
        all: &[Sequence],
        _: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let one = |(i, s): (usize, &Sequence)| {
            if self.reranker {
                return Ok(vec![s.ids.len() as f32]);
            }
            if s.ids.len() > 100 {
                return Err(Error::TextTooLong { number: i + 1, tokens: s.ids.len(), context: 100 });
            }
            let mut v = [0.0_f32; 4];
            s.ids.iter().for_each(|id| v[*id as usize % 4] += 1.0);
            let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
            Ok(v.iter().map(|x| x / length).collect())
        };
        all.iter().enumerate().map(one).collect()
    }
}

fn floats(base64: &str) -> Vec<f32> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = base64
        .bytes()
        .filter(|b| *b != b'=')
        .flat_map(|b| {
            let digit = DIGITS.iter().position(|d| *d == b).expect("a digit");
            (0..6).rev().map(move |i| (digit >> i & 1) as u8)
        })
        .collect();
    let bytes: Vec<u8> = bits.chunks_exact(8).map(|c| c.iter().fold(0, |b, bit| b << 1 | bit)).collect();
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("four"))).collect()
}

#[test]
fn texts_become_vectors() {
    let server = Server::of_vectors(false);
    let ask = |more: Value| {
        let mut body = json!({ "model": "fake", "input": ["abc", "aaaa", "hello"] });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        server.post("/v1/embeddings", &body)
    };
    let plain = ask(json!({})).json();
    let data = plain["data"].as_array().expect("data");
    assert_eq!((data.len(), &plain["usage"]["prompt_tokens"]), (3, &json!(12)));
    let vector: Vec<f32> = serde_json::from_value(data[2]["embedding"].clone()).expect("numbers");
    let coded = ask(json!({ "encoding_format": "base64" })).json();
    assert_eq!(floats(coded["data"][2]["embedding"].as_str().expect("a text")), vector);
    let short = ask(json!({ "dimensions": 2 })).json();
    let short: Vec<f32> = serde_json::from_value(short["data"][2]["embedding"].clone()).expect("numbers");
    let length = short.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!(short.len() == 2 && (length - 1.0).abs() < 1e-6, "{short:?}");
    for (more, param) in [
        (json!({ "dimensions": 5 }), "dimensions"),
        (json!({ "input": "" }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": ["a", 1] }), "input"),
        (json!({ "input": "x".repeat(101) }), "input"),
        (json!({ "encoding_format": "hex" }), "encoding_format"),
    ] {
        let error = ask(more.clone()).error();
        assert_eq!((error.0, error.2.as_str()), (400, param), "{more}");
    }
    // Both numbers, as for a prompt that is too long.
    let long = ask(json!({ "input": "x".repeat(101) })).json()["error"].clone();
    assert_eq!(
        (&long["code"], &long["n_prompt_tokens"], &long["n_ctx"]),
        (&json!("context_length_exceeded"), &json!(101), &json!(100))
    );
    assert_eq!(ask(json!({ "input": [1, 2, 3] })).status, 200);
    let chat = json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }] });
    assert!(server.post("/v1/chat/completions", &chat).body.contains("ask it at /v1/embeddings"));
}

#[test]
fn documents_are_ordered() {
    let server = Server::of_vectors(true);
    let body = json!({ "model": "fake", "query": "abc", "documents": ["xyz", "aabbcc", { "text": "ab" }], "top_n": 2,
                       "return_documents": true });
    let results = server.post("/v1/rerank", &body).json()["results"].clone();
    let order: Vec<_> = results.as_array().expect("results").iter().map(|r| r["index"].as_u64()).collect();
    assert_eq!(order, [Some(1), Some(2)]);
    assert_eq!(
        (&results[0]["relevance_score"], &results[0]["document"]["text"]),
        (&json!(6.0), &json!("aabbcc"))
    );
    let none = json!({ "model": "fake", "query": "abc", "documents": [] });
    assert_eq!(server.post("/v1/rerank", &none).error().2, "documents");
    let vectors = json!({ "model": "fake", "input": "a" });
    assert!(server.post("/v1/embeddings", &vectors).body.contains("ask it at /v1/rerank"));
}

/// What a model of vectors and a reranker do is in `/metrics`, as answers are.
#[test]
fn vectors_and_scores_are_counted() {
    let embedder = Server::of_vectors(false);
    let input = json!({ "model": "fake", "input": ["abc", "hello"] });
    assert_eq!(embedder.post("/v1/embeddings", &input).status, 200);
    let new = embedder.post("/api/embed", &json!({ "model": "fake", "input": "ab" }));
    assert_eq!(new.status, 200);
    let old = embedder.post("/api/embeddings", &json!({ "model": "fake", "prompt": "ab" }));
    assert_eq!((old.status, &old.json()["embedding"]), (200, &new.json()["embeddings"][0]));
    // What is refused has taken no vector.
    assert_eq!(
        embedder.post("/v1/embeddings", &json!({ "model": "fake", "input": "x".repeat(101) })).status,
        400
    );
    let reranker = Server::of_vectors(true);
    let documents = json!({ "model": "fake", "query": "abc", "documents": ["abx", "c"] });
    assert_eq!(reranker.post("/v1/rerank", &documents).status, 200);
    for (server, counts) in [
        (&embedder, [("texts", 4), ("prompt_tokens", 12), ("requests_finished", 3), ("requests_failed", 0)]),
        (&reranker, [("texts", 2), ("prompt_tokens", 3), ("requests_finished", 1), ("requests_failed", 0)]),
    ] {
        let text = server.get("/metrics").body;
        for (name, count) in counts {
            let line = format!("\nweft_{name}_total{{model=\"fake\"}} {count}\n");
            assert!(text.contains(&line), "no {line} in {text}");
        }
        for gauge in ["waiting", "running"] {
            assert!(text.contains(&format!("\nweft_requests_{gauge}{{model=\"fake\"}} 0\n")), "{text}");
        }
    }
}
