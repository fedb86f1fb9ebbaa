//! A hub on loopback that does what it is told to: also what no server should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use weft_formats::gguf::{Metadata, Value, Writer};
use weft_formats::quant::Type;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Where a range begins that is asked for.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is sent: a status, headers, and the bytes of a body, which may be fewer than the headers say.
pub(crate) struct Reply(pub(crate) u16, pub(crate) Vec<(&'static str, String)>, pub(crate) Vec<u8>);

/// An answer with its length.
pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    let body = body.into();
    Reply(status, vec![("Content-Length", body.len().to_string())], body)
}

/// A file as a good server sends it, parts of it too.
pub(crate) fn file(asked: &Asked, bytes: &[u8], etag: &str) -> Reply {
    let same = asked.header("if-range").is_none_or(|tag| tag == etag);
    let tag = ("ETag", etag.to_owned());
    match asked.from().filter(|_| same) {
        None => {
            let mut whole = reply(200, bytes);
            whole.1.push(tag);
            whole
        }
        Some(from) if from >= bytes.len() => Reply(416, vec![("Content-Length", "0".into())], Vec::new()),
        Some(from) => {
            let mut part = reply(206, &bytes[from..]);
            part.1.push(tag);
            part.1.push(("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
            part
        }
    }
}

/// The same, of which the connection brings `most` bytes.
pub(crate) fn cut(reply: Reply, most: usize) -> Reply {
    let mut reply = reply;
    reply.2.truncate(most);
    reply
}

type Answer = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// The hub. What it is asked with is kept.
pub(crate) struct Hub {
    pub(crate) at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Hub {
    /// Answers each request by a function of it and of how many there were before. It ends with the process.
    pub(crate) fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (kept.clone(), answer.clone());
                std::thread::spawn(move || one(stream, &kept, &*answer));
            }
        });
        Hub { at, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.at)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn one(mut stream: TcpStream, kept: &Mutex<Vec<Asked>>, answer: &Answer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head");
    let mut lines = head.trim_end().split("\r\n");
    let target = lines.next().expect("a line").split(' ').nth(1).expect("a target").to_owned();
    let header = |l: &str| l.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    let asked = Asked { target, headers: lines.filter_map(header).collect() };
    let count = {
        let mut kept = kept.lock().expect("no panic");
        kept.push(asked.clone());
        kept.len() - 1
    };
    let Reply(status, headers, body) = answer(&asked, count);
    let mut text = format!("HTTP/1.1 {status} Words\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    // Whoever asked may have gone.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// A small model file; shard `no` of `count`, from 0 on, where there are several.
pub(crate) fn gguf(values: usize, fill: f32, shard: Option<(u16, u16)>) -> Vec<u8> {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Str("llama".into()));
    if let Some((no, count)) = shard {
        metadata.set("split.no", Value::U16(no));
        metadata.set("split.count", Value::U16(count));
        metadata.set("split.tensors.count", Value::I32(count.into()));
    }
    let name = format!("t{}", shard.map_or(0, |s| s.0));
    let writer = Writer::new(&metadata, [(name, vec![values as u64], Type::F32)]).expect("a file");
    let data: Vec<u8> = (0..values).flat_map(|i| (fill + i as f32).to_le_bytes()).collect();
    writer.to_bytes(&[data]).expect("a file")
}

pub(crate) fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What a hub says of a repository of these files.
pub(crate) fn listing(files: &[(&str, u64, String)]) -> Json {
    let one = |(name, size, sha256): &(&str, u64, String)| json!({ "rfilename": name, "size": size, "lfs": { "sha256": sha256, "size": size, "pointerSize": 130 } });
    json!({ "id": "org/repo", "sha": "abc123", "siblings": files.iter().map(one).collect::<Vec<_>>() })
}

/// A hub that holds these files, each by the way it answers for them.
pub(crate) fn holding(files: Vec<(&'static str, Vec<u8>)>) -> impl Fn(&Asked, usize) -> Reply + Send + Sync {
    move |asked: &Asked, _| {
        if asked.target.starts_with("/api/models/org/repo/") {
            let told: Vec<_> = files.iter().map(|(n, b)| (*n, b.len() as u64, sum(b))).collect();
            return reply(200, listing(&told).to_string());
        }
        let found = files.iter().find(|(n, _)| asked.target == format!("/org/repo/resolve/abc123/{n}"));
        match found {
            Some((name, bytes)) => file(asked, bytes, &format!("\"{name}\"")),
            None => reply(404, "none"),
        }
    }
}
