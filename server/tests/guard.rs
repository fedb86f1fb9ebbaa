//! Who may ask, and what is no request.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use weft_server::{Config, Keys};

use crate::support::{Reply, Server};

#[test]
fn other_names_and_other_pages_are_refused() {
    let server = Server::open();
    let get = |headers: &str| {
        server.raw(&format!("GET /v1/models HTTP/1.1\r\nconnection: close\r\n{headers}\r\n"), b"")
    };
    let own = format!("host: {}\r\n", server.at);
    assert_eq!(get(&own).status, 200);
    assert_eq!(get("host: evil.example\r\n").error(), (403, "host_not_allowed".into(), String::new()));
    assert_eq!(get(&format!("{own}origin: http://evil.example\r\n")).error().0, 403);
    assert_eq!(get(&format!("{own}sec-fetch-site: cross-site\r\n")).error().0, 403);
    let reply = get(&format!("{own}origin: http://{}\r\n", server.at));
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 2\r\n";
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\n{own}{form}\r\n");
    assert_eq!(server.raw(&head, b"{}").error().0, 415);
    let preflight = format!(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nconnection: close\r\n{own}origin: http://a.example\r\n\r\n"
    );
    assert_eq!(server.raw(&preflight, b"").status, 403);
}

/// Whoever refuses a request: Ollama's and Anthropic's clients read what is wrong as theirs says it.
#[test]
fn what_no_route_answers_is_told_in_the_shape_of_its_clients() {
    let server = Server::open();
    let own = format!("host: {}\r\nconnection: close\r\n", server.at);
    let (good, bad) = ("content-type: application/json\r\n", "content-type: text/plain\r\n");
    for (line, headers, status) in [
        ("GET {}/nothing", &*own, 404),
        ("GET {}", &own, 405),
        ("POST {}", &format!("{own}{bad}content-length: 2\r\n"), 415),
        ("POST {}", &format!("{own}{good}content-encoding: gzip\r\ncontent-length: 2\r\n"), 415),
        ("POST {}", &format!("host: evil.example\r\nconnection: close\r\n{good}content-length: 2\r\n"), 403),
        ("POST {}", &format!("{own}{good}content-length: 2\r\n"), 400),
    ] {
        for path in ["/api/chat", "/v1/messages", "/v1/chat/completions"] {
            let head = format!("{} HTTP/1.1\r\n{headers}\r\n", line.replace("{}", path));
            let reply = server.raw(&head, if line.starts_with("POST") { b"{}" } else { b"" });
            let body = reply.json();
            assert_eq!(reply.status, status, "{head}{body}");
            let message = match path {
                "/api/chat" => &body["error"],
                _ => &body["error"]["message"],
            };
            assert!(message.is_string(), "{head}{body}");
            assert_eq!(body["type"] == "error", path == "/v1/messages", "{head}{body}");
        }
    }
    let keys = Keys::parse("0123456789abcdef0123456789abcdef").expect("a key");
    let server = Server::start(Config { keys, ..Default::default() }, Default::default());
    assert!(server.get("/api/tags").json()["error"].is_string());
    let refused = server.post("/v1/messages", &json!({})).json();
    assert_eq!(refused["error"]["type"], "authentication_error", "{refused}");
}

#[test]
fn a_named_origin_may_ask() {
    let server = Server::start(
        Config { origins: vec!["http://a.example".into()], ..Default::default() },
        Default::default(),
    );
    let ask = |method: &str, origin: &str| {
        let head = format!(
            "{method} /v1/models HTTP/1.1\r\nhost: {}\r\nconnection: close\r\norigin: {origin}\r\n\r\n",
            server.at
        );
        let reply = server.raw(&head, b"");
        (reply.status, reply.header("access-control-allow-origin").map(str::to_owned))
    };
    let allowed = Some("http://a.example".to_owned());
    assert_eq!(ask("OPTIONS", "http://a.example"), (204, allowed.clone()));
    assert_eq!(ask("GET", "http://a.example"), (200, allowed));
    assert_eq!(ask("GET", "http://b.example"), (403, None));
    // The openai package in a page asks for headers of its own.
    let wanted = |origin: &str| {
        let head = format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nconnection: close\r\norigin: {origin}\r\n\
             access-control-request-headers: authorization,x-stainless-lang\r\n\r\n",
            server.at
        );
        server.raw(&head, b"").header("access-control-allow-headers").map(str::to_owned)
    };
    assert_eq!(wanted("http://a.example"), Some("authorization,x-stainless-lang".to_owned()));
    assert_eq!(wanted("http://b.example"), None);
}

#[test]
fn a_key_opens() {
    let keys = Keys::parse("a-key-of-the-first\na-key-of-the-second").expect("keys");
    let server = Server::start(Config { keys, ..Default::default() }, Default::default());
    let get = |path: &str, header: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{header}\r\n", server.at);
        server.raw(&head, b"")
    };
    assert_eq!(get("/health", "").status, 200);
    let reply = get("/v1/models", "");
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("bearer")));
    assert_eq!(get("/v1/models", "authorization: Bearer wrong\r\n").status, 401);
    assert_eq!(get("/v1/models", "authorization: Bearer a-key-of-the-first\r\n").status, 200);
    assert_eq!(get("/v1/models", "x-api-key: a-key-of-the-second\r\n").status, 200);
}

#[test]
fn what_is_not_there_is_said() {
    let server = Server::open();
    let reply = server.get("/v1/chat/completion");
    assert_eq!(reply.error(), (404, "route_not_found".into(), String::new()));
    assert!(reply.body.contains("did you mean /v1/chat/completions?"), "{reply:?}");
    let reply = server.get("/v1/chat/completions");
    assert_eq!((reply.error().0, reply.header("allow")), (405, Some("post")));
    assert!(reply.header("x-request-id").expect("an id").starts_with("req_"));
}

/// Numbers without a seed from outside, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// Whatever is sent, a client is told what is wrong with it, and the server goes on.
#[test]
fn malformed_requests_are_4xx() {
    let server = Server::open();
    let good = json!({ "model": "fake", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 1,
                       "stop": ["a"], "logit_bias": { "5": 1 }, "stream": false, "n": 1, "seed": 1 })
    .to_string();
    let deep = |n: usize| format!("{{\"model\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let pieces = [
        "null",
        "[]",
        "{}",
        "-1",
        "1e999",
        "\"\\ud800\"",
        "true",
        "\"x\"",
        "[[1]]",
        "18446744073709551616",
        "{\"a\":{}}",
    ];
    let mut random = Random(5);
    let (mut refused, mut served) = (0, 0);
    for i in 0..if cfg!(debug_assertions) { 1000 } else { 10_000 } {
        let mut body = good.clone().into_bytes();
        match i % 5 {
            // A value in place of another.
            0 | 1 => {
                let starts: Vec<usize> = good.match_indices(':').map(|(at, _)| at + 1).collect();
                let at = starts[random.next(starts.len())];
                let end = good[at..].find([',', '}']).map_or(good.len(), |n| at + n);
                body.splice(at..end, pieces[random.next(pieces.len())].bytes());
            }
            2 => body.truncate(random.next(body.len())),
            3 => {
                for _ in 0..=random.next(4) {
                    let at = random.next(body.len());
                    body[at] = random.next(256) as u8;
                }
            }
            _ => body = deep(1 << random.next(14)).into_bytes(),
        }
        let path =
            ["/v1/chat/completions", "/v1/completions", "/tokenize", "/apply-template"][random.next(4)];
        let reply = server.post_bytes(path, &body);
        match reply.status {
            200 => served += 1,
            400..=499 => refused += 1,
            other => panic!("{other} for {:?}: {reply:?}", String::from_utf8_lossy(&body)),
        }
    }
    assert!(refused > 500 && served > 5, "{refused} refused, {served} served");
    assert!(server.is_idle());
}

#[test]
fn http_that_is_none_is_not_answered_with_200() {
    let server = Server::open();
    for text in [
        "",
        "\0\0\0\0",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut stream = server.connect();
        stream.write_all(text.as_bytes()).expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let reply = Reply::read(&mut stream);
        assert!(reply.status == 0 || (400..500).contains(&reply.status), "{text:?}: {reply:?}");
    }
}

#[test]
fn bodies_and_heads_have_bounds() {
    let config = Config { body: 1 << 20, read_timeout: Duration::from_millis(300), ..Default::default() };
    let server = Server::start(config, Default::default());
    let reply = server.post_bytes("/tokenize", &vec![b' '; (1 << 20) + 1]);
    assert_eq!(reply.error(), (413, "body_too_large".into(), String::new()));
    let reply = server.raw(&server.head("/tokenize", 100), b"{\"content\":");
    assert_eq!(reply.error().0, 408);
    // Who sends no head is sent away.
    let start = Instant::now();
    let mut stream = server.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost:").expect("written");
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(start.elapsed() < Duration::from_secs(10));
}
