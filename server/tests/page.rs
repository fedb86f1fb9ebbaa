//! The page comes out of the binary, under its policy.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use weft_server::{Config, Keys};

use crate::support::{Engine, Reply, Server};

/// The files of `web/` that are served, by their addresses.
fn files() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, at: &str, found: &mut Vec<(String, PathBuf)>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let name = entry.file_name().into_string().expect("a name");
            let path = entry.path();
            if path.is_dir() {
                if !["tests", "screens", "engine", "wasm", "bundle", "dist"].contains(&name.as_str()) {
                    walk(&path, &format!("{at}{name}/"), found);
                }
            } else if !["README.md", "LICENSE", "versions.json", "csp.txt"].contains(&name.as_str()) {
                found.push((if name == "index.html" { at.to_owned() } else { format!("{at}{name}") }, path));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../web"), "/", &mut found);
    found
}

/// The head and the bytes of the answer to a GET.
fn fetch(server: &Server, path: &str, more: &str) -> (String, Vec<u8>) {
    let mut stream = server.connect();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{more}\r\n", server.at);
    stream.write_all(head.as_bytes()).expect("a request");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an answer");
    let at = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let body = all.split_off(at + 4);
    (String::from_utf8(all).expect("ASCII").to_lowercase(), body)
}

#[test]
fn every_file_of_the_page_is_in_the_binary() {
    let server = Server::open();
    let files = files();
    assert!(files.len() > 35, "{files:?}");
    for (address, path) in files {
        let (head, body) = fetch(&server, &address, "");
        assert!(head.starts_with("http/1.1 200"), "{address}: {head}");
        assert!(body == std::fs::read(&path).expect("a file"), "{address} differs from {path:?}");
        let end = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let kind = match end {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "webmanifest" => "application/manifest+json",
            other => panic!("{address} ends in {other}"),
        };
        for header in [
            format!("content-type: {kind}"),
            "x-content-type-options: nosniff".into(),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';".into(),
            "referrer-policy: no-referrer".into(),
            "x-frame-options: deny".into(),
            "cross-origin-resource-policy: same-origin".into(),
            "cache-control: no-cache".into(),
        ] {
            assert!(head.contains(&format!("\r\n{header}")), "{address} has no {header}: {head}");
        }
        assert!(!head.contains("content-encoding"), "{address}: {head}");
    }
}

#[test]
fn a_browser_that_has_a_file_is_told_so() {
    let server = Server::open();
    for more in ["", "accept-encoding: br, GZIP;q=0.8\r\n"] {
        let (head, body) = fetch(&server, "/js/main.js", more);
        let tag = head.lines().find_map(|l| l.strip_prefix("etag: ")).expect("a tag").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".into()] {
            let (again, none) = fetch(&server, "/js/main.js", &format!("{more}if-none-match: {known}\r\n"));
            assert!(again.starts_with("http/1.1 304") && none.is_empty(), "{known}: {again}");
            assert!(again.contains(&format!("etag: {tag}")), "{again}");
        }
        let (again, same) = fetch(&server, "/js/main.js", &format!("{more}if-none-match: \"x\"\r\n"));
        assert!(again.starts_with("http/1.1 200") && same == body);
    }
}

#[test]
fn compressed_files_go_to_those_who_take_them() {
    let server = Server::open();
    let (head, small) = fetch(&server, "/js/main.js", "accept-encoding: gzip, deflate\r\n");
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
    let (_, plain) = fetch(&server, "/js/main.js", "");
    assert!(
        small.len() * 2 < plain.len() && small.starts_with(&[0x1f, 0x8b]),
        "{} of {}",
        small.len(),
        plain.len()
    );
    for not in ["identity", "gzip;q=0", "br, gzip; q=0.0", "gzipped"] {
        let (head, body) = fetch(&server, "/js/main.js", &format!("accept-encoding: {not}\r\n"));
        assert!(!head.contains("content-encoding") && body == plain, "{not}: {head}");
    }
    // A picture is compressed by itself.
    let (head, _) = fetch(&server, "/icons/weft-512.png", "accept-encoding: gzip\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[test]
fn nothing_else_is_on_the_page_s_side() {
    let server = Server::open();
    for path in [
        "/index.html",
        "/csp.txt",
        "/tests/mock.mjs",
        "/js",
        "/js/",
        "/js/../app.css",
        "/../Cargo.toml",
        "/js/%2e%2e/app.css",
        "//app.css",
        "/vendor/versions.json",
    ] {
        let (head, _) = fetch(&server, path, "");
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
    }
    let reply = server.post_bytes("/app.css", b"{}");
    assert_eq!((reply.error().0, reply.header("allow")), (405, Some("get")), "{reply:?}");
    let foreign = server.raw("GET / HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", b"");
    assert_eq!(foreign.error().0, 403);
}

#[test]
fn the_page_opens_without_the_key_that_it_asks_for() {
    let keys = Keys::parse("0123456789abcdef\n").expect("a key");
    let server = Server::start(Config { keys, ..Config::default() }, Engine::default());
    assert!(fetch(&server, "/", "").0.starts_with("http/1.1 200"));
    assert!(fetch(&server, "/js/main.js", "").0.starts_with("http/1.1 200"));
    let refused: Reply = server.get("/v1/models");
    assert_eq!(refused.error().0, 401);
    assert_eq!(server.post_bytes("/", b"{}").error().0, 401);
}
