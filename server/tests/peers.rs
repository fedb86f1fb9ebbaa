//! One server that uses another: paired, used, cut off, fallen back, used again; and whoever is to be kept out.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_server::{Config, Peers};

use crate::support::{Engine, Reply, Server};

const CHAT: &str = "/v1/chat/completions";

/// A folder of a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weft-machines-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        Folder(std::env::temp_dir().join(name))
    }

    fn peers(&self, name: &str) -> Peers {
        Peers::new(&self.0, name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    (listener, at)
}

/// A machine that others may use, with the code that it shows.
struct Desk {
    server: Server,
    code: String,
    at: SocketAddr,
    folder: Folder,
}

const STEP: Duration = Duration::from_millis(2);

impl Desk {
    fn start() -> Desk {
        let (folder, (listener, at)) = (Folder::new(), listener());
        Desk::at(folder, listener, at)
    }

    fn at(folder: Folder, listener: TcpListener, at: SocketAddr) -> Desk {
        let peers = folder.peers("desk").listen(listener).expect("a key");
        let code = peers.open_door().expect("a code");
        let engine = Engine { name: "big", step: STEP, ..Engine::default() };
        Desk { server: Server::with_peers(engine, peers), code, at, folder }
    }
}

/// A machine that uses others; its own model is called `name`.
fn laptop(folder: &Folder, name: &'static str) -> Server {
    Server::with_peers(Engine { name, ..Engine::default() }, folder.peers("laptop"))
}

/// Hands on what goes between two machines, keeps it, and can be cut.
struct Between {
    at: SocketAddr,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    live: Arc<Mutex<Vec<TcpStream>>>,
    open: Arc<AtomicBool>,
}

impl Between {
    fn start(to: SocketAddr) -> Between {
        let (listener, at) = listener();
        let between =
            Between { at, kept: Arc::default(), live: Arc::default(), open: Arc::new(AtomicBool::new(true)) };
        let (kept, live, open) = (between.kept.clone(), between.live.clone(), between.open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                if !open.load(Ordering::SeqCst) {
                    continue;
                }
                let far = TcpStream::connect(to).expect("a machine");
                let copy = |mut from: TcpStream, mut to: TcpStream, kept: Arc<Mutex<Vec<Vec<u8>>>>| {
                    let index = {
                        let mut kept = kept.lock().expect("kept");
                        kept.push(Vec::new());
                        kept.len() - 1
                    };
                    std::thread::spawn(move || {
                        let mut buffer = [0; 4096];
                        while let Ok(n) = from.read(&mut buffer) {
                            kept.lock().expect("kept")[index].extend_from_slice(&buffer[..n]);
                            if n == 0 || to.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                };
                let same = |s: &TcpStream| s.try_clone().expect("a socket");
                live.lock().expect("live").extend([same(&near), same(&far)]);
                copy(same(&near), same(&far), kept.clone());
                copy(far, near, kept.clone());
            }
        });
        between
    }

    fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for stream in self.live.lock().expect("live").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// What came from one side, and what from the other, a connection each.
    fn kept(&self) -> Vec<Vec<u8>> {
        self.kept.lock().expect("kept").clone()
    }
}

/// Adds the machine at an address to those of a server, as the page does.
#[track_caller]
fn pair(server: &Server, code: &str, at: SocketAddr) {
    let reply = server.post("/v1/machines", &json!({ "code": format!("{code}@{at}") }));
    assert_eq!((reply.status, &reply.json()["name"]), (200, &json!("desk")), "{reply:?}");
}

fn ask(model: &str, more: &Value) -> Value {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "What is a SECRETWORD?" }],
                           "seed": 7, "max_tokens": 40 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

fn endless(model: &str) -> Value {
    ask(model, &json!({ "stream": true, "ignore_eos": true, "max_tokens": 400 }))
}

/// A stream that has begun.
fn begin(server: &Server, path: &str, body: &Value) -> (TcpStream, Vec<u8>) {
    let body = body.to_string();
    let mut stream = server.connect();
    stream.write_all((server.head(path, body.len()) + &body).as_bytes()).expect("asked");
    let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
    while seen.len() < 1500 {
        let n = stream.read(&mut buffer).expect("an answer");
        assert!(n > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    (stream, seen)
}

#[test]
fn a_machine_is_paired_and_used() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let laptop = laptop(&folder, "small");
    let before = laptop.get("/v1/machines").json();
    assert_eq!(
        (&before["data"], &before["name"], &before["listens"]),
        (&json!([]), &json!("laptop"), &Value::Null)
    );
    pair(&laptop, &desk.code, desk.at);
    let known = laptop.get("/v1/machines").json();
    assert_eq!(known["data"][0]["models"], json!(["big"]), "{known}");
    assert_eq!(known["data"][0]["answers"], true);
    let guests = desk.server.get("/v1/machines").json();
    assert_eq!(
        (&guests["guests"], &guests["open"]),
        (&json!([{ "name": "laptop" }]), &json!(false)),
        "{guests}"
    );
    let models = laptop.get("/v1/models").json();
    assert_eq!((&models["data"][0]["id"], &models["data"][1]["id"]), (&json!("small"), &json!("big@desk")));
    assert_eq!(models["data"][1]["meta"]["machine"], "desk");
    assert_eq!(laptop.get("/v1/models/big@desk").json(), models["data"][1]);
    assert!(laptop.get("/api/tags").body.contains("\"big@desk\""));
    // What is answered is what is answered there, but for its name.
    let there = desk.server.post(CHAT, &ask("big", &json!({}))).json();
    let reply = laptop.post(CHAT, &ask("big@desk", &json!({})));
    let here = reply.json();
    assert_eq!(reply.header("x-weft-machine"), Some("desk"));
    assert_eq!((&here["choices"], &here["model"]), (&there["choices"], &json!("big@desk")));
    let streamed = laptop.post(CHAT, &ask("big@desk", &json!({ "stream": true })));
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    let text: String = streamed
        .events()
        .iter()
        .inspect(|e| assert_eq!(e["model"], "big@desk"))
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(here["choices"][0]["message"]["content"], text.as_str());
    let own = laptop.post(CHAT, &ask("small", &json!({})));
    assert_eq!((own.header("x-weft-machine"), &own.json()["model"]), (Some("laptop"), &json!("small")));
}

#[test]
fn every_api_reaches_the_other_machine_and_its_errors_come_back() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, desk.at);
    let said = json!([{ "role": "user", "content": "Hi" }]);
    for (path, body) in [
        ("/v1/completions", json!({ "model": "big@desk", "prompt": "Hi", "max_tokens": 3 })),
        ("/v1/messages", json!({ "model": "big@desk", "messages": said, "max_tokens": 3 })),
        ("/v1/messages/count_tokens", json!({ "model": "big@desk", "messages": said })),
        ("/v1/responses", json!({ "model": "big@desk", "input": "Hi", "max_output_tokens": 3 })),
        ("/api/chat", json!({ "model": "big@desk", "messages": said, "options": { "num_predict": 3 } })),
        (
            "/api/generate",
            json!({ "model": "big@desk:latest", "prompt": "Hi", "options": { "num_predict": 3 } }),
        ),
        ("/tokenize", json!({ "model": "big@desk", "content": "Hi" })),
        ("/apply-template", json!({ "model": "big@desk", "messages": said })),
    ] {
        let reply = laptop.post(path, &body);
        assert_eq!((reply.status, reply.header("x-weft-machine")), (200, Some("desk")), "{path}: {reply:?}");
        let named = !["/v1/messages/count_tokens", "/tokenize", "/apply-template"].contains(&path);
        assert_eq!(reply.body.contains("\"model\":\"big@desk\""), named, "{path}: {reply:?}");
    }
    let props = laptop.get("/props?model=big%40desk");
    assert_eq!((props.header("x-weft-machine"), &props.json()["model"]), (Some("desk"), &json!("big@desk")));
    // A conversation that the other machine keeps goes on there.
    let first =
        laptop.post("/v1/responses", &json!({ "model": "big@desk", "input": "Hi", "max_output_tokens": 3 }));
    let id = first.json()["id"].clone();
    let next =
        json!({ "model": "big@desk", "input": "More", "previous_response_id": id, "max_output_tokens": 3 });
    assert_eq!(laptop.post("/v1/responses", &next).status, 200);
    let id = id.as_str().expect("an id");
    assert_eq!(desk.server.get(&format!("/v1/responses/{id}")).error().0, 404, "it is another asker's");
    // What is wrong is said by whoever it is wrong for.
    let reply = laptop.post(CHAT, &ask("other@desk", &json!({})));
    assert_eq!(reply.error(), (404, "model_not_found".into(), "model".into()));
    assert_eq!(reply.header("x-weft-machine"), Some("desk"));
    let reply = laptop.post(CHAT, &ask("big@desk", &json!({ "temprature": 1 })));
    assert_eq!((reply.error().0, reply.header("x-weft-machine")), (400, Some("desk")));
    let reply = laptop.post(CHAT, &ask("big@nowhere", &json!({})));
    assert_eq!((reply.error().0, reply.header("x-weft-machine")), (404, Some("laptop")));
    // A model of a third machine is not to be had by way of the second.
    let reply = laptop.post(CHAT, &ask("small@laptop@desk", &json!({})));
    assert_eq!(reply.error().0, 404);
}

/// A client that leaves the first machine frees the slot of the second.
#[test]
fn who_leaves_frees_the_other_machine() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, desk.at);
    for _ in 0..3 {
        let (stream, _) = begin(&laptop, CHAT, &endless("big@desk"));
        assert_eq!(desk.server.engine.load().1, 1);
        drop(stream);
        assert!(desk.server.is_idle());
    }
    // One that waits for its whole answer, too.
    let mut body = endless("big@desk");
    body["stream"] = false.into();
    let body = body.to_string();
    let mut stream = laptop.connect();
    stream.write_all((laptop.head(CHAT, body.len()) + &body).as_bytes()).expect("asked");
    let until = Instant::now() + Duration::from_secs(5);
    while desk.server.engine.load().1 == 0 {
        assert!(Instant::now() < until, "nothing is asked");
        std::thread::sleep(Duration::from_millis(1));
    }
    let asked = Instant::now();
    drop(stream);
    assert!(desk.server.is_idle() && asked.elapsed() < 200 * STEP, "it was drawn to its end");
}

#[test]
fn what_is_cut_says_so_and_falls_back_where_it_can() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let between = Between::start(desk.at);
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, between.at);
    let said = json!([{ "role": "user", "content": "Hi" }]);
    // Ollama's answers end by themselves: some seed gives a long one.
    let seeded = |model: &str, seed: u32| {
        let options = json!({ "seed": seed, "temperature": 1, "num_predict": 400 });
        json!({ "model": model, "messages": said, "options": options })
    };
    let lasts = |seed: &u32| {
        let mut body = seeded("big", *seed);
        body["stream"] = false.into();
        desk.server.post("/api/chat", &body).json()["eval_count"].as_u64() > Some(100)
    };
    let lines = seeded("big@desk", (1..200).find(lasts).expect("a long answer"));
    let claude = json!({ "model": "big@desk", "messages": said, "max_tokens": 400, "stream": true, "ignore_eos": true });
    let items = json!({ "model": "big@desk", "input": "Hi", "stream": true, "ignore_eos": true });
    for (path, body, mark) in [
        (CHAT, endless("big@desk"), "data: {\"error\":{"),
        ("/api/chat", lines, "\n{\"error\":\""),
        ("/v1/messages", claude, "event: error\ndata: {\"type\":\"error\""),
        ("/v1/responses", items, "event: error\ndata: {\"type\":\"error\""),
    ] {
        let (mut stream, mut seen) = begin(&laptop, path, &body);
        between.cut();
        stream.read_to_end(&mut seen).expect("the rest");
        let text = String::from_utf8(seen).expect("text");
        let line = "broke off in the middle of the answer";
        assert!(
            text.contains(mark) && text.contains(line) && text.contains("machine_lost"),
            "{path}: {text}"
        );
        assert!(text.ends_with("\r\n0\r\n\r\n") && !text.contains("[DONE]"), "{path}: {text}");
        let away = laptop.post(CHAT, &ask("big@desk", &json!({})));
        assert_eq!(away.error(), (503, "machine_away".into(), "model".into()));
        let away = away.line().expect("a line");
        assert!(away.starts_with("\"desk\" is away: ") && away.contains("--fallback"), "{away}");
        between.mend();
        let again = laptop.post(CHAT, &ask("big@desk", &json!({})));
        assert_eq!(again.header("x-weft-machine"), Some("desk"), "{again:?}");
        assert!(desk.server.is_idle());
    }
}

#[test]
fn a_local_model_answers_for_a_machine_that_is_away() {
    let desk = Desk::start();
    let between = Between::start(desk.at);
    let answers = |laptop: &Server, want: [Option<&str>; 3]| {
        let reply = laptop.post(CHAT, &ask("big@desk", &json!({})));
        let got = [reply.header("x-weft-machine"), reply.header("x-weft-away")];
        assert_eq!((got, reply.json()["model"].as_str()), ([want[0], want[1]], want[2]), "{reply:?}");
    };
    // One of the same name needs nobody's word; another one does.
    let named = Folder::new();
    let same = laptop(&named, "big");
    pair(&same, &desk.code, between.at);
    let code = desk.server.post("/v1/pair", &json!({})).json()["code"].as_str().expect("a code").to_owned();
    let other = Folder::new();
    let peers = other.peers("tablet").with_fallback(Some("small".into()));
    let other = Server::with_peers(Engine { name: "small", ..Engine::default() }, peers);
    pair(&other, &code, between.at);
    for _ in 0..2 {
        answers(&same, [Some("desk"), None, Some("big@desk")]);
        answers(&other, [Some("desk"), None, Some("big@desk")]);
        between.cut();
        answers(&same, [Some("laptop"), Some("desk"), Some("big")]);
        answers(&other, [Some("tablet"), Some("desk"), Some("small")]);
        between.mend();
    }
}

#[test]
fn nothing_between_the_machines_is_plain() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let between = Between::start(desk.at);
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, between.at);
    let reply =
        laptop.post(CHAT, &ask("big@desk", &json!({ "stream": true, "ignore_eos": true, "max_tokens": 80 })));
    let text: String = reply
        .events()
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    let words: Vec<&str> = text.split(' ').filter(|w| w.len() > 5).collect();
    assert!(!words.is_empty(), "{text}");
    let kept = between.kept();
    assert!(kept.len() >= 4 && kept.iter().map(Vec::len).sum::<usize>() > 5000, "too little was kept");
    let plain = ["SECRETWORD", "HTTP/1.1", "content", "POST", "big", "desk", "laptop", "model", "data:"];
    let code = desk.code.replace('-', "");
    let keys: Vec<Vec<u8>> = [&desk.folder, &folder]
        .iter()
        .map(|f| std::fs::read(f.0.join("identity.key")).expect("a key"))
        .collect();
    for side in &kept {
        let has = |what: &[u8]| side.windows(what.len()).any(|w| w == what);
        for word in plain.iter().copied().chain(words.iter().copied()).chain([&*code, &*desk.code]) {
            assert!(!has(word.as_bytes()), "{word:?} went between them");
        }
        assert!(keys.iter().all(|k| !has(&k[..64])));
    }
}

/// The line of an attempt to pair that comes to nothing.
#[track_caller]
fn refused(folder: &Folder, code: &str, at: SocketAddr) -> String {
    let line = folder.peers("thief").pair_now(&format!("{code}@{at}"), None).expect_err("refused");
    assert!(!line.contains('\n') && folder.peers("thief").paired().expect("a list").machines.is_empty());
    line
}

#[test]
fn a_code_lets_one_machine_in_once() {
    let (desk, thief, folder) = (Desk::start(), Folder::new(), Folder::new());
    let wrong = "the code is wrong, was used or is too old";
    assert!(refused(&thief, "0000-0000-0000-0000", desk.at).contains(wrong));
    let between = Between::start(desk.at);
    let machine =
        folder.peers("laptop").pair_now(&format!("{}@{}", desk.code, between.at), None).expect("paired");
    assert_eq!((machine.name.as_str(), machine.address), ("desk", between.at.to_string()));
    // The same code again, and the same bytes again.
    assert!(refused(&thief, &desk.code, desk.at).contains(wrong));
    let bytes =
        between.kept().into_iter().find(|b| b.starts_with(b"weft1p")).expect("what the one said who came");
    let mut stream = TcpStream::connect(desk.at).expect("a connection");
    stream.write_all(&bytes).expect("sent");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert_eq!(said, [1], "one byte, which says that the code is void");
    let guests = desk.folder.peers("desk").paired().expect("a list").guests;
    assert_eq!(guests.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["laptop"]);
    // Who tries often is told to wait, whatever the code.
    let lines: Vec<String> = (0..10).map(|_| refused(&thief, "0000-0000-0000-0000", desk.at)).collect();
    assert!(lines.last().is_some_and(|l| l.contains("too many tries")), "{lines:?}");
    let code = desk.server.post("/v1/pair", &json!({})).json()["code"].as_str().expect("a code").to_owned();
    assert!(refused(&thief, &code, desk.at).contains("too many tries"));
}

/// Whoever stands between two machines with keys of their own learns nothing and gets nowhere.
#[test]
fn a_man_in_the_middle_is_found_out() {
    let (desk, folder) = (Desk::start(), Folder::new());
    // While they are paired: it does not know the code.
    let middle = Desk::start();
    let line = refused(&folder, &desk.code, middle.at);
    assert!(line.contains("the code is wrong"), "{line}");
    // One that says that all is well, and then makes something up.
    let (listener, at) = listener();
    let liar = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody");
        let mut seen = [0; 56];
        stream.read_exact(&mut seen).expect("a first message");
        let mut said = vec![0, 0, 102];
        said.extend_from_slice(&[9; 102]);
        stream.write_all(&said).expect("said");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        (seen, rest)
    });
    let line = refused(&folder, &desk.code, at);
    assert!(line.contains("does not know the code; somebody may be in between"), "{line}");
    let (seen, rest) = liar.join().expect("a liar");
    assert!(seen.starts_with(b"weft1p") && rest.is_empty(), "nothing came behind the first message");
    // Afterwards: another machine at the same address has another key.
    let between = Between::start(desk.at);
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, between.at);
    let file = folder.0.join("machines.json");
    let text = std::fs::read_to_string(&file).expect("a list");
    std::fs::write(&file, text.replace(&between.at.to_string(), &middle.at.to_string())).expect("written");
    let reply = laptop.post(CHAT, &ask("big@desk", &json!({})));
    assert_eq!(reply.error(), (503, "machine_away".into(), "model".into()));
    assert!(reply.body.contains("does not know this machine"), "{reply:?}");
    assert_eq!(middle.server.engine.load(), (0, 0));
}

#[test]
fn who_is_not_paired_or_no_longer_is_refused() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let between = Between::start(desk.at);
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, between.at);
    assert_eq!(laptop.post(CHAT, &ask("big@desk", &json!({}))).status, 200);
    let talks: Vec<Vec<u8>> = between.kept().into_iter().filter(|b| b.starts_with(b"weft1t")).collect();
    // Somebody with a key of their own, who knows the key and the address of the desk.
    let thief = Folder::new();
    assert!(thief.peers("thief").pair_now("0000-0000-0000-0000@127.0.0.1:1", None).is_err());
    std::fs::copy(folder.0.join("machines.json"), thief.0.join("machines.json")).expect("copied");
    let stranger = self::laptop(&thief, "small");
    let reply = stranger.post(CHAT, &ask("big@desk", &json!({})));
    assert!(reply.status == 503 && reply.body.contains("does not know this machine"), "{reply:?}");
    // A channel whose bytes are sent again does not open.
    assert!(!talks.is_empty());
    for bytes in talks {
        let before = desk.server.get("/metrics").body;
        let mut stream = TcpStream::connect(desk.at).expect("a connection");
        stream.write_all(&bytes).expect("sent");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        // A key that was made for it and an empty message, and then nothing.
        assert_eq!((said.len(), said[0]), (1 + 2 + 32 + 16, 0), "{said:?}");
        assert_eq!(desk.server.get("/metrics").body, before, "something was answered");
    }
    // One that is forgotten is shut out, though its channel is open.
    let reply = desk.server.raw(
        &format!(
            "DELETE /v1/machines/laptop HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            desk.server.at
        ),
        b"",
    );
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = laptop.post(CHAT, &ask("big@desk", &json!({})));
    assert_eq!(reply.error(), (403, "not_paired".into(), String::new()));
}

/// What is no Weft, is slow, or comes in numbers does not keep others out for long.
#[test]
fn strangers_cost_little() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(desk.at).expect("a connection");
        stream.write_all(bytes).expect("sent");
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    };
    assert_eq!(say(b"GET / HTTP/1.1\r\n\r\n"), b"");
    assert_eq!(say(b"weft2p"), [5]);
    assert_eq!(say(b"weft1t\xff\xff"), [3]);
    assert_eq!(say(b"weft1t\x00\x04abcd"), [3]);
    assert_eq!(say(b""), b"");
    // More than there is room for, one after the other: one that has just been turned away may still take room when
    // the first of these come.
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            TcpStream::connect(desk.at).expect("a connection")
        })
        .collect();
    // A busy machine may take its time to let all of them in, and to see that they left.
    let until = |told: &[u8]| {
        (0..500).any(|_| {
            let is_told = say(b"") == told;
            if !is_told {
                std::thread::sleep(Duration::from_millis(10));
            }
            is_told
        })
    };
    // The byte that says so.
    assert!(until(&[4]), "there is room for more than sixty-four");
    let line = refused(&folder, &desk.code, desk.at);
    assert!(line.contains("no room for another connection"), "{line}");
    drop(silent);
    assert!(until(&[]), "who left still takes room");
    folder.peers("laptop").pair_now(&format!("{}@{}", desk.code, desk.at), None).expect("paired");
}

/// A server that other computers reach changes no machines by request: it would connect to wherever it is told.
#[test]
fn machines_are_changed_from_here_alone() {
    let folder = Folder::new();
    let config = Config { any_address: true, ..Config::default() };
    let server =
        Server::made(config, Engine::default(), "server", |app| app.with_peers(folder.peers("laptop")));
    let refused = (403, "not_from_here".to_owned(), String::new());
    let body = json!({ "code": "0000-0000-0000-0000@127.0.0.1:1" });
    assert_eq!(server.post("/v1/machines", &body).error(), refused);
    assert_eq!(server.post("/v1/pair", &json!({})).error(), refused);
    assert_eq!(server.get("/v1/machines").json()["may_change"], false);
    let server = laptop(&folder, "small");
    for (body, code, param) in [
        (json!({}), "missing_required_parameter", "code"),
        (json!({ "code": 1 }), "invalid_type", "code"),
        (json!({ "code": "x" }), "pairing_failed", "code"),
        (json!({ "code": "0000-0000-0000-0000@http://a" }), "pairing_failed", "code"),
        (json!({ "code": "0000-0000-0000-0000@127.0.0.1:1", "name": "a b" }), "pairing_failed", "code"),
        (json!({ "code": "0000-0000-0000-0000@127.0.0.1:1", "nam": "a" }), "unknown_parameter", "nam"),
    ] {
        let (status, c, p) = server.post("/v1/machines", &body).error();
        assert_eq!((status, c.as_str(), p.as_str()), (400, code, param), "{body}");
    }
    assert_eq!(server.post("/v1/pair", &json!({})).error().1, "not_listening");
    assert!(!folder.0.join("machines.json").exists());
}

/// The middle one of the times to the first byte of a stream.
fn first_byte(server: &Server, model: &str) -> Duration {
    let body = ask(model, &json!({ "stream": true, "max_tokens": 2 })).to_string();
    let one = || {
        let mut stream = server.connect();
        let _ = stream.set_nodelay(true);
        let asked = Instant::now();
        stream.write_all((server.head(CHAT, body.len()) + &body).as_bytes()).expect("asked");
        stream.read_exact(&mut [0; 1]).expect("an answer");
        let took = asked.elapsed();
        let _ = Reply::read(&mut stream);
        took
    };
    let mut all: Vec<Duration> = (0..31).map(|_| one()).collect();
    all.sort();
    all[all.len() / 2]
}

#[test]
fn the_way_to_another_machine_is_short() {
    let (desk, folder) = (Desk::start(), Folder::new());
    let laptop = laptop(&folder, "small");
    pair(&laptop, &desk.code, desk.at);
    let (there, here) = (first_byte(&desk.server, "big"), first_byte(&laptop, "big@desk"));
    println!("first byte: {there:?} asked there, {here:?} by way of another machine");
    assert!(here < there + Duration::from_millis(20), "{here:?} against {there:?}");
}
