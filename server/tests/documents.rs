//! /v1/documents, with vectors that are made of words.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_documents::{About, Store, pdf};
use weft_models::{Result, Sequence};
use weft_server::engine::{VectorHandle, Vectors};
use weft_server::{Config, Documents, Keys, Served};

use crate::support::Server;

const LOOMS: &[u8] = include_bytes!("../../documents/tests/data/looms.pdf");
const WIDTH: usize = 48;

/// A text's vector is the sum of a vector for each of its words.
struct Words;

impl Vectors for Words {
    fn is_reranker(&self) -> bool {
        false
    }

    fn sequence(&self, text: &str) -> Result<Sequence> {
        Ok(text.chars().map(u32::from).collect::<Vec<_>>().into())
    }

    fn pair(&self, _: &str, document: &str) -> Result<Sequence> {
        self.sequence(document)
    }

    fn run(
        &mut self,
        all: &[Sequence],
        _: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let one = |s: &Sequence| {
            let text: String = s.ids.iter().filter_map(|c| char::from_u32(*c)).collect();
            let mut sum = [1e-6_f32; WIDTH];
            for word in weft_documents::words::words(&text).iter().filter(|w| w.len() > 3) {
                let place = word.bytes().fold(0_usize, |h, b| h.wrapping_mul(31) + usize::from(b)) % WIDTH;
                sum[place] += 1.0;
            }
            let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
            sum.iter().map(|x| x / length).collect()
        };
        Ok(all.iter().map(one).collect())
    }
}

pub(crate) fn words() -> VectorHandle {
    VectorHandle::spawn(|| Ok(Box::new(Words) as Box<dyn Vectors>)).expect("a thread")
}

pub(crate) fn of(served: &Served) -> Documents {
    let about = About { name: "words".into(), width: WIDTH, mark: "w".into() };
    let read = Arc::new(|bytes: &[u8]| pdf::pages(bytes, pdf::Limits::default()));
    Documents::new(Store::in_memory().expect("memory"), about, served, None, read).expect("documents")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0_u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        (0..=group.len()).for_each(|i| out.push(DIGITS[(word >> (18 - 6 * i)) as usize & 63].into()));
    }
    out
}

#[test]
fn documents_are_kept_found_and_removed() {
    let server = Server::of_documents(Config::default());
    let list = server.get("/v1/documents").json();
    assert_eq!(
        (&list["data"], &list["adding"], &list["embedder"]),
        (&json!([]), &json!([]), &json!("words"))
    );
    assert_eq!(server.get("/props").json()["documents"], json!({ "embedder": "words", "reranker": null }));
    let bread = json!({ "name": "bread.md", "text": "# Bread\n\nThe oven is heated to 230 degrees.\n" });
    let first = server.post("/v1/documents", &bread).json();
    assert_eq!(
        (&first["kind"], &first["passages"], &first["known"]),
        (&json!("markdown"), &json!(1), &json!(false))
    );
    assert_eq!(server.post("/v1/documents", &bread).json()["known"], true);
    let pdf = server.post("/v1/documents", &json!({ "name": "looms.pdf", "content": base64(LOOMS) })).json();
    assert_eq!((&pdf["kind"], &pdf["pages"], &pdf["bytes"]), (&json!("pdf"), &json!(2), &json!(LOOMS.len())));
    let find = |query: &str| {
        let found = server.post("/v1/documents/search", &json!({ "query": query, "top_n": 2 })).json();
        found["data"][0].clone()
    };
    let hit = find("Which watchman rang the bell?");
    assert_eq!((&hit["name"], &hit["page"], &hit["document"]), (&json!("looms.pdf"), &json!(2), &pdf["id"]));
    assert!(hit["text"].as_str().expect("a text").contains("Elias Thorne"), "{hit}");
    assert_eq!(find("How hot is the oven?")["heading"], "Bread");
    let remove = |id: &str| {
        let head =
            format!("DELETE /v1/documents/{id} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.at);
        server.raw(&head, b"")
    };
    let id = first["id"].as_str().expect("an id");
    assert_eq!(remove(id).json()["deleted"], true);
    assert_eq!(remove(id).error().0, 404);
    let names: Vec<Value> = server.get("/v1/documents").json()["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|d| d["name"].clone())
        .collect();
    assert_eq!(names, ["looms.pdf"]);
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    let server = Server::of_documents(Config::default());
    for (body, param, says) in [
        (json!({ "text": "x" }), Some("name"), "missing"),
        (json!({ "name": "x" }), Some("content"), "missing"),
        (json!({ "name": "x", "text": "a", "content": "YQ==" }), Some("content"), "both"),
        (json!({ "name": "x", "content": "a b" }), Some("content"), "base64"),
        (json!({ "name": "../x", "text": "a" }), Some("name"), "without folders"),
        (json!({ "name": " ", "text": "a" }), Some("name"), "without folders"),
        (json!({ "name": "x".repeat(300), "text": "a" }), Some("name"), "255"),
        (json!({ "name": "x", "text": "a", "chunk_size": 9 }), Some("chunk_size"), "not known"),
        (json!({ "name": "x", "content": "AAEC" }), None, "neither text"),
        (json!({ "name": "x", "text": " " }), None, "no text"),
        (json!({ "name": "x.pdf", "text": "%PDF-1.4 x" }), None, "damaged"),
    ] {
        let reply = server.post("/v1/documents", &body);
        let error = reply.json()["error"].clone();
        assert_eq!(reply.error().0, 400, "{body}: {error}");
        assert_eq!(error["param"].as_str(), param, "{error}");
        assert!(error["message"].as_str().expect("a line").contains(says), "{error}");
    }
    for (body, param) in [
        (json!({}), "query"),
        (json!({ "query": " " }), "query"),
        (json!({ "query": "x", "top_n": 0 }), "top_n"),
        (json!({ "query": "x", "rerank": true }), "rerank"),
    ] {
        let reply = server.post("/v1/documents/search", &body);
        assert_eq!((reply.error().0, reply.json()["error"]["param"].as_str()), (400, Some(param)), "{body}");
    }
    assert_eq!(server.get("/v1/documents").json()["data"], json!([]));
}

#[test]
fn a_server_without_documents_says_how_to_have_some() {
    let server = Server::open();
    for reply in
        [server.get("/v1/documents"), server.post("/v1/documents", &json!({ "name": "x", "text": "y" }))]
    {
        assert_eq!(reply.error().0, 404);
        assert!(reply.body.contains("--documents documents.redb --embedder"), "{}", reply.body);
    }
    assert_eq!(server.get("/props").json()["documents"], Value::Null);
}

#[test]
fn documents_are_behind_the_key() {
    let keys = Keys::parse("0123456789abcdef\n").expect("a key");
    let server = Server::of_documents(Config { keys, ..Config::default() });
    assert_eq!(server.get("/v1/documents").error().0, 401);
    assert_eq!(server.post("/v1/documents/search", &json!({ "query": "x" })).error().0, 401);
    let head = format!("DELETE /v1/documents/x HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.at);
    assert_eq!(server.raw(&head, b"").error().0, 401);
}
