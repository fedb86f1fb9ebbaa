//! A server on a free port, and a client that sees the bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;
use weft_formats::chat::Template;
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;
use weft_models::Sampling;
use weft_server::engine::fake::Fake;
use weft_server::engine::{Backend, Handle, Start, VectorHandle, Vectors, Worker};
use weft_server::{App, Card, Config, Peers, Served};

use crate::vectors::Letters;

/// Positions of an answer.
pub(crate) const CONTEXT: usize = 512;

/// How the engine of a test is.
#[derive(Clone, Copy)]
pub(crate) struct Engine {
    pub(crate) slots: usize,
    pub(crate) step: Duration,
    pub(crate) lost_after: Option<u64>,
    /// A template in place of weft-mini's.
    pub(crate) template: Option<&'static str>,
    /// Whether it judges pairs, where it gives vectors in place of text.
    pub(crate) vectors: Option<bool>,
    pub(crate) name: &'static str,
    /// Its adapters.
    pub(crate) adapters: &'static [(&'static str, f32)],
    /// Whether there are documents, whose vectors are made of words.
    pub(crate) documents: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            slots: 4,
            step: Duration::ZERO,
            lost_after: None,
            template: None,
            vectors: None,
            name: "fake",
            adapters: &[],
            documents: false,
        }
    }
}

/// A running server, which ends with its test.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pub(crate) engine: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    worker: Option<Worker>,
}

fn vocabulary() -> (Tokenizer, Template) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/assets/weft-mini.gguf");
    let file = File::open(&path).expect("weft-mini");
    let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("its tokenizer");
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default().to_owned();
    let template = Template::from_metadata(file.metadata(), &text(tokenizer.bos()), &text(tokenizer.eos()));
    (tokenizer, template.expect("its template"))
}

/// A card of weft-mini's vocabulary.
pub(crate) fn card(name: &str) -> Card {
    let (tokenizer, template) = vocabulary();
    Card {
        id: name.into(),
        template: Ok(template),
        context: CONTEXT,
        trained: CONTEXT,
        slots: 4,
        vocabulary: tokenizer.vocab_size() as u32,
        sampling: Sampling::default(),
        created: 1_700_000_000,
        adapters: Vec::new(),
        adapted: Vec::new(),
        facts: Default::default(),
        tokenizer,
    }
}

impl Server {
    pub(crate) fn start(config: Config, engine: Engine) -> Server {
        Server::named(config, engine, "server")
    }

    /// With a name for the threads that speak HTTP.
    pub(crate) fn named(config: Config, engine: Engine, name: &'static str) -> Server {
        Server::made(config, engine, name, |app| app)
    }

    /// With other machines.
    pub(crate) fn with_peers(engine: Engine, peers: Peers) -> Server {
        Server::made(Config::default(), engine, "server", |app| app.with_peers(peers))
    }

    /// With what `change` adds to it.
    pub(crate) fn made(
        config: Config,
        engine: Engine,
        name: &'static str,
        change: impl FnOnce(App) -> App,
    ) -> Server {
        let mut card = card(engine.name);
        card.slots = engine.slots;
        card.adapters = engine.adapters.iter().map(|(name, scale)| ((*name).into(), *scale)).collect();
        if let Some(source) = engine.template {
            card.template = Ok(Template::new(source, "", "<|im_end|>").expect("a template"));
        }
        let tokenizer = card.tokenizer.clone();
        let mut starts = 0;
        let start: Start = Box::new(move || {
            starts += 1;
            let mut fake = Fake::new(tokenizer.clone(), engine.slots, CONTEXT);
            fake.step_time = engine.step;
            fake.lost_after = engine.lost_after.filter(|_| starts == 1);
            Ok(Box::new(fake) as Box<dyn Backend>)
        });
        let worker = Worker::spawn(start, config.limits).expect("a thread");
        let handle = worker.handle();
        let served = match engine.vectors {
            None => Served::text(card, worker.handle()),
            Some(_) if engine.documents => Served::vectors(card, crate::documents::words()),
            Some(reranker) => {
                let letters = move || Ok(Box::new(Letters { reranker }) as Box<dyn Vectors>);
                Served::vectors(card, VectorHandle::spawn(letters).expect("a thread"))
            }
        };
        let documents = engine.documents.then(|| crate::documents::of(&served));
        let mut app = change(App::new(config, vec![served]));
        if let Some(documents) = documents {
            app = app.with_documents(documents);
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name(name)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                listener.set_nonblocking(true).expect("a mode");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                ready.send(()).expect("a test");
                weft_server::serve_until(app.into(), listener, async { drop(stopped.await) }).await;
            });
        };
        let thread = std::thread::spawn(run);
        is_ready.recv().expect("a server");
        Server { at, engine: handle, stop: Some(stop), thread: Some(thread), worker: Some(worker) }
    }

    /// One that turns texts into vectors, or judges pairs.
    pub(crate) fn of_vectors(reranker: bool) -> Server {
        Server::start(Config::default(), Engine { vectors: Some(reranker), ..Default::default() })
    }

    /// One that keeps documents.
    pub(crate) fn of_documents(config: Config) -> Server {
        Server::start(config, Engine { vectors: Some(false), documents: true, ..Default::default() })
    }

    pub(crate) fn open() -> Server {
        Server::start(Config::default(), Engine::default())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    }

    /// Sends the head and the body of a request as they are, and reads to the end.
    pub(crate) fn raw(&self, head: &str, body: &[u8]) -> Reply {
        let mut stream = self.connect();
        // It may be answered before it has been read.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        Reply::read(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.at), b"")
    }

    /// What stands at `path` once its status is this.
    #[track_caller]
    pub(crate) fn until(&self, path: &str, status: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let one = self.get(path).json();
            if one["status"] == status {
                return one;
            }
            assert!(Instant::now() < end, "not {status}: {one}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn post_bytes(&self, path: &str, body: &[u8]) -> Reply {
        self.raw(&self.head(path, body.len()), body)
    }

    pub(crate) fn head(&self, path: &str, length: usize) -> String {
        head(self.at, path, length)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// Asks for a stream and leaves after so many bytes of it.
    pub(crate) fn leave_after(&self, path: &str, body: &Value, bytes: usize) {
        let body = body.to_string();
        let mut stream = self.connect();
        let _ = stream.write_all((self.head(path, body.len()) + &body).as_bytes());
        let mut seen = vec![0; bytes];
        let _ = stream.read_exact(&mut seen);
    }

    /// Waits until nothing runs and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while self.engine.load() != (0, 0) {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Asks the server to end, and waits for it.
    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends");
        }
        if let Some(worker) = self.worker.take() {
            worker.end(Instant::now());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// The head of a request with a body of JSON.
pub(crate) fn head(at: SocketAddr, path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn read(stream: &mut TcpStream) -> Reply {
        let mut bytes = Vec::new();
        // A server that closes before it has read everything resets the connection.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, rest) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        let head = head.to_lowercase();
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(rest) } else { rest.to_owned() };
        Reply { status, head, body }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The code and the field of an error.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        // Ollama's clients take a line of text, and the rest stands beside it.
        let e = if body["error"].is_string() { &body } else { &body["error"] };
        assert!(self.line().is_some(), "{self:?}");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (self.status, text(&e["code"]), text(&e["param"]))
    }

    /// The line of an error.
    pub(crate) fn line(&self) -> Option<String> {
        let error = &self.json()["error"];
        let line = if error.is_string() { error } else { &error["message"] };
        line.as_str().map(str::to_owned)
    }

    /// The JSON of each event; `[DONE]` must come last.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        assert!(self.body.ends_with("data: [DONE]\n\n"), "{self:?}");
        self.events_so_far()
    }

    #[track_caller]
    pub(crate) fn events_so_far(&self) -> Vec<Value> {
        let data = self.body.split("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
        data.filter(|d| *d != "[DONE]")
            .map(|d| serde_json::from_str(d).unwrap_or_else(|e| panic!("{e}: {d}")))
            .collect()
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, tail)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        let Some(chunk) = tail.get(..length).filter(|c| !c.is_empty()) else { break };
        body += chunk;
        rest = tail.get(length + 2..).unwrap_or_default();
    }
    body
}
