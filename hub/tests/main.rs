//! Pulls from a hub of ours that breaks off, lies and changes its mind.

mod hub;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use weft_hub::{Error, Kind, Name, Options, Pulled, Store, Url, Verdict, pull};

use hub::{Hub, Reply, cut, file, gguf, holding, listing, reply, sum};

/// An empty folder of a test's own.
pub(crate) fn store(name: &str) -> Store {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    Store::at(path)
}

pub(crate) fn options(endpoint: &str) -> Options {
    Options {
        tries: 3,
        pause: Duration::from_millis(1),
        stall: Duration::from_secs(10),
        ..Options::new(Url::parse(endpoint).expect("an endpoint"))
    }
}

pub(crate) fn get(store: &Store, name: &str, options: &Options) -> Result<Pulled, Error> {
    pull(store, &Name::parse(name).expect(name), options, &|| false, &mut |_| ())
}

fn fails(store: &Store, name: &str, options: &Options, kind: Kind, parts: &[&str]) {
    let e = get(store, name, options).expect_err(name);
    assert_eq!(e.kind, kind, "{e}");
    for part in parts {
        assert!(e.line.contains(part), "no {part:?} in {e}");
    }
}

/// What lies in the folder, beside what is known of it.
fn files(store: &Store) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(store.folder()) else { return Vec::new() };
    let name = |e: std::io::Result<std::fs::DirEntry>| {
        e.expect("an entry").file_name().into_string().expect("a name")
    };
    let mut all: Vec<String> = entries.map(name).filter(|n| n != ".weft").collect();
    all.sort();
    all
}

fn is(path: &Path, bytes: &[u8]) {
    assert!(std::fs::read(path).expect("a file") == bytes, "{} holds other bytes", path.display());
}

#[test]
fn a_model_is_pulled_checked_and_removed() {
    let (q4, q8) = (gguf(5000, 0.0, None), gguf(9000, 1.0, None));
    let hub =
        Hub::start(holding(vec![("m-Q4_K_M.gguf", q4.clone()), ("m-Q8_0.gguf", q8), ("README.md", vec![1])]));
    let (store, options) = (store("whole"), options(&hub.url("")));
    let mut last = (0, None);
    let name = Name::parse("hf.co/org/repo:Q4_K_M").unwrap();
    let pulled = pull(&store, &name, &options, &|| false, &mut |p| last = (p.done, p.total)).unwrap();
    assert_eq!((pulled.entry.name.as_str(), pulled.was_there), ("m-Q4_K_M", false));
    assert_eq!(last.1, Some(q4.len() as u64));
    is(&pulled.entry.files[0], &q4);
    let record = pulled.entry.record.expect("a record");
    assert_eq!((record.name.as_str(), record.revision.as_deref()), ("org/repo:Q4_K_M", Some("abc123")));
    assert_eq!(record.files, [("m-Q4_K_M.gguf".to_owned(), q4.len() as u64, sum(&q4))]);
    assert_eq!(files(&store), ["m-Q4_K_M.gguf"]);
    // Once more: nothing is fetched.
    let before = hub.asked().len();
    assert!(get(&store, "org/repo", &options).unwrap().was_there);
    assert_eq!(hub.asked().len(), before + 1);
    for name in ["m-Q4_K_M", "m-Q4_K_M.gguf", "org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M"] {
        assert_eq!(store.find(name).expect(name).name, "m-Q4_K_M");
    }
    let mut go = |_| std::ops::ControlFlow::Continue(());
    assert_eq!(store.verify("m-Q4_K_M", &mut go).unwrap(), Verdict::Right);
    let path = store.folder().join("m-Q4_K_M.gguf");
    let mut changed = q4.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &changed).unwrap();
    assert_eq!(store.verify("m-Q4_K_M", &mut go).unwrap_err().kind, Kind::Checksum);
    assert_eq!(store.remove("m-Q4_K_M").unwrap(), q4.len() as u64);
    assert!(files(&store).is_empty() && store.list().is_empty());
    let missing = store.remove("../m-Q4_K_M").unwrap_err();
    assert!(missing.kind == Kind::Missing && missing.line.contains("there are: none"), "{missing}");
}

#[test]
fn what_breaks_off_is_gone_on_with() {
    let bytes = gguf(100_000, 0.0, None);
    let all = bytes.clone();
    let hub = Hub::start(move |asked, n| match n {
        0 => cut(file(asked, &all, "\"a\""), 100_000),
        1 => cut(file(asked, &all, "\"a\""), 70_000),
        2 => reply(503, "later"),
        _ => file(asked, &all, "\"a\""),
    });
    let store = store("broken");
    let url = hub.url("x/model.gguf?signature=secret");
    let pulled = get(&store, &url, &options(&hub.url(""))).unwrap();
    is(&pulled.entry.files[0], &bytes);
    let asked = hub.asked();
    let ranges: Vec<_> = asked.iter().map(|a| a.from()).collect();
    assert_eq!(ranges, [None, Some(100_000), Some(170_000), Some(170_000)]);
    assert!(asked[1..].iter().all(|a| a.header("if-range") == Some("\"a\"")));
    // What signs an address is not kept.
    let record = pulled.entry.record.expect("a record").json().to_string();
    assert!(!record.contains("secret") && record.contains("/x/model.gguf"), "{record}");
    assert!(get(&store, &url, &options(&hub.url(""))).unwrap().was_there);
}

/// A call that fails leaves what came, under a name that is no model's, and the next call needs the rest alone.
#[test]
fn a_later_call_goes_on() {
    let bytes = gguf(50_000, 0.0, None);
    let (all, well) = (bytes.clone(), Arc::new(AtomicBool::new(false)));
    let is_well = well.clone();
    let hub = Hub::start(move |asked, n| match (is_well.load(Ordering::SeqCst), n) {
        (true, _) => file(asked, &all, "\"a\""),
        (false, 0) => cut(file(asked, &all, "\"a\""), 60_000),
        (false, _) => cut(file(asked, &all, "\"a\""), 0),
    });
    let (store, options, url) = (store("later"), options(&hub.url("")), hub.url("model.gguf"));
    fails(
        &store,
        &url,
        &options,
        Kind::Network,
        &["58.6 KiB of 195.4 KiB are kept, and the same call goes on"],
    );
    assert_eq!(files(&store), ["model.gguf.part"]);
    assert!(store.list().is_empty());
    let part = store.partial().pop().expect("a part");
    assert_eq!((part.name.as_str(), part.done, part.total), ("model", 60_000, Some(bytes.len() as u64)));
    well.store(true, Ordering::SeqCst);
    is(&get(&store, &url, &options).unwrap().entry.files[0], &bytes);
    assert_eq!(hub.asked().last().unwrap().from(), Some(60_000));
    assert_eq!(files(&store), ["model.gguf"]);
    assert!(store.partial().is_empty());
}

#[test]
fn a_file_that_changed_begins_anew() {
    let (old, new) = (gguf(50_000, 0.0, None), gguf(40_000, 7.0, None));
    let want = new.clone();
    let hub = Hub::start(move |asked, n| match n {
        0 => cut(file(asked, &old, "\"old\""), 60_000),
        _ => file(asked, &new, "\"new\""),
    });
    let store = store("changed");
    let mut notes = Vec::new();
    let name = Name::parse(&hub.url("model.gguf")).unwrap();
    let pulled = pull(&store, &name, &options(&hub.url("")), &|| false, &mut |p| {
        notes.extend(p.note.map(str::to_owned))
    });
    is(&pulled.unwrap().entry.files[0], &want);
    assert!(notes.iter().any(|n| n.contains("begins anew")), "{notes:?}");
}

/// A server that sends the rest of another file, as if nothing had happened.
#[test]
fn a_part_of_another_file_is_not_taken() {
    let (old, new) = (gguf(50_000, 0.0, None), gguf(50_000, 7.0, None));
    let (first, want) = (old.clone(), new.clone());
    let hub = Hub::start(move |asked, n| match n {
        0 => cut(file(asked, &first, "\"old\""), 60_000),
        _ => {
            let mut reply = file(asked, &new, asked.header("if-range").unwrap_or("\"new\""));
            reply.1.iter_mut().filter(|h| h.0 == "ETag").for_each(|h| h.1 = "\"new\"".into());
            reply
        }
    });
    let store = store("other");
    is(&get(&store, &hub.url("model.gguf"), &options(&hub.url(""))).unwrap().entry.files[0], &want);
    // With a checksum the end decides, whatever the tags say.
    let store = crate::store("other-sum");
    let hub = Hub::start(move |asked, n| {
        cut(file(asked, if n == 0 { &old } else { &want }, "\"a\""), if n == 0 { 60_000 } else { usize::MAX })
    });
    let options = Options { sha256: Some("ab".repeat(32)), ..options(&hub.url("")) };
    fails(&store, &hub.url("model.gguf"), &options, Kind::Checksum, &["abab", "thrown away"]);
    assert!(files(&store).is_empty() && store.partial().is_empty());
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let bytes = gguf(1000, 0.0, None);
    let hub = Hub::start(move |asked, _| match asked.target.starts_with("/api/") {
        true => reply(200, listing(&[("m.gguf", bytes.len() as u64, "0".repeat(64))]).to_string()),
        false => file(asked, &bytes, "\"a\""),
    });
    let store = store("checksum");
    fails(&store, "org/repo", &options(&hub.url("")), Kind::Checksum, &["m.gguf", &"0".repeat(64)]);
    assert!(files(&store).is_empty() && store.list().is_empty() && store.partial().is_empty());
}

#[test]
fn lies_about_lengths_are_noticed() {
    let bytes = gguf(1000, 0.0, None);
    let len = bytes.len();
    let with = |answer: fn(&[u8]) -> Reply, said: u64, name: &str, kind: Kind, parts: &[&str]| {
        let bytes = bytes.clone();
        let hub = Hub::start(move |asked, _| match asked.target.starts_with("/api/") {
            true => reply(200, listing(&[("m.gguf", said, sum(&bytes))]).to_string()),
            false => answer(&bytes),
        });
        let store = store(name);
        fails(&store, "org/repo", &options(&hub.url("")), kind, parts);
        assert!(store.list().is_empty(), "{name}");
    };
    let right = len as u64;
    with(|b| reply(200, b), right + 1, "len-hub", Kind::Protocol, &["should have"]);
    let more = |b: &[u8]| Reply(200, vec![("Content-Length", (b.len() + 9).to_string())], b.to_vec());
    with(more, right + 9, "len-more", Kind::Network, &["are kept"]);
    with(
        |b| Reply(200, vec![("Content-Length", "many".into())], b.to_vec()),
        right,
        "len-word",
        Kind::Protocol,
        &["no number"],
    );
    let two = |b: &[u8]| {
        Reply(200, vec![("Content-Length", "1".into()), ("Content-Length", "2".into())], b.to_vec())
    };
    with(two, right, "len-two", Kind::Protocol, &["several lengths"]);
    let both = |b: &[u8]| {
        Reply(
            200,
            vec![("Content-Length", b.len().to_string()), ("Transfer-Encoding", "chunked".into())],
            b.to_vec(),
        )
    };
    with(both, right, "len-both", Kind::Protocol, &["not clear"]);
    let chunks = |b: &[u8]| {
        let body = [format!("{:x}\r\n", b.len()).as_bytes(), b, b"\r\n5\r\nmore!\r\n0\r\n\r\n"].concat();
        Reply(200, vec![("Transfer-Encoding", "chunked".into())], body)
    };
    with(chunks, right, "len-chunks", Kind::Protocol, &["more comes"]);
    with(
        |b| Reply(206, vec![("Content-Length", b.len().to_string())], b.to_vec()),
        right,
        "len-206",
        Kind::Protocol,
        &["206"],
    );
    with(
        |b| Reply(200, vec![("Content-Encoding", "gzip".into())], b.to_vec()),
        right,
        "len-gzip",
        Kind::Protocol,
        &["compressed"],
    );
    // Without any length there is nothing to compare with.
    let hub = Hub::start(move |_, _| Reply(200, Vec::new(), bytes.clone()));
    fails(&store("len-none"), &hub.url("m.gguf"), &options(&hub.url("")), Kind::Protocol, &["how long"]);
}

#[test]
fn chunks_of_a_length_that_the_hub_knows_are_taken() {
    let bytes = gguf(1000, 0.0, None);
    let want = bytes.clone();
    let hub = Hub::start(move |asked, _| {
        if asked.target.starts_with("/api/") {
            return reply(200, listing(&[("m.gguf", bytes.len() as u64, sum(&bytes))]).to_string());
        }
        let mut body = Vec::new();
        for piece in bytes.chunks(999) {
            body.extend(format!("{:X};x=y\r\n", piece.len()).into_bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        Reply(200, vec![("Transfer-Encoding", "chunked".into())], body)
    });
    is(&get(&store("chunks"), "org/repo", &options(&hub.url(""))).unwrap().entry.files[0], &want);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, headers, kind, part) in [
        (404, vec![], Kind::Missing, "has no such model"),
        (401, vec![], Kind::Denied, "HF_TOKEN"),
        (403, vec![], Kind::Denied, "accept terms"),
        (429, vec![("Retry-After", "3600".to_owned())], Kind::Limited, "too much"),
        (500, vec![], Kind::Network, "fails with 500"),
        (302, vec![], Kind::Protocol, "where to"),
        (302, vec![("Location", "ftp://x/y".to_owned())], Kind::Name, "begins with http"),
        (302, vec![("Location", "/x".to_owned())], Kind::Protocol, "more than 10 times"),
        (302, vec![("Location", "http://127.0.0.1:1/x".to_owned())], Kind::Network, "nobody answers"),
        (418, vec![], Kind::Protocol, "418"),
    ] {
        let hub = Hub::start(move |_, _| {
            let length = ("Content-Length", "0".to_owned());
            Reply(status, [&[length], &headers[..]].concat(), Vec::new())
        });
        let store = store("refused");
        fails(&store, "org/repo:Q8_0", &options(&hub.url("")), kind, &[part]);
        fails(&store, &hub.url("m.gguf"), &options(&hub.url("")), kind, &[part]);
        assert!(files(&store).is_empty() && store.partial().is_empty(), "{status}: {:?}", files(&store));
    }
}

#[test]
fn too_much_asked_waits_as_told() {
    let bytes = gguf(100, 0.0, None);
    let hub = Hub::start(move |asked, n| match n {
        0 => Reply(429, vec![("Content-Length", "0".into()), ("Retry-After", "1".into())], Vec::new()),
        _ => file(asked, &bytes, "\"a\""),
    });
    let since = std::time::Instant::now();
    get(&store("limited"), &hub.url("m.gguf"), &options(&hub.url(""))).unwrap();
    assert!(since.elapsed() >= Duration::from_secs(1));
}

/// A token goes to the hub, and not to where it redirects.
#[test]
fn a_token_stays_with_the_hub() {
    let bytes = gguf(100, 0.0, None);
    let (all, len) = (bytes.clone(), bytes.len() as u64);
    let cdn = Hub::start(move |asked, _| file(asked, &all, "\"a\""));
    let to = cdn.url("blob?X-Signature=1");
    let hub = Hub::start(move |asked, _| match asked.target.as_str() {
        _ if asked.header("authorization") != Some("Bearer hf_secret") => reply(401, ""),
        t if t.starts_with("/api/") => reply(200, listing(&[("m.gguf", len, sum(&bytes))]).to_string()),
        "/org/repo/resolve/abc123/m.gguf" => {
            Reply(302, vec![("Location", "/again".into()), ("Content-Length", "0".into())], Vec::new())
        }
        _ => Reply(302, vec![("Location", to.clone()), ("Content-Length", "0".into())], Vec::new()),
    });
    let store = store("token");
    fails(&store, "org/repo", &options(&hub.url("")), Kind::Denied, &["HF_TOKEN"]);
    let with = Options { token: Some("hf_secret".into()), ..options(&hub.url("")) };
    get(&store, "org/repo", &with).unwrap();
    assert!(cdn.asked().len() == 1 && cdn.asked()[0].header("authorization").is_none());
    let wrong = Options { token: Some("hf_other".into()), ..with };
    let e = get(&crate::store("token-wrong"), "org/repo", &wrong).unwrap_err();
    assert!(e.line.contains("the token of HF_TOKEN may not") && !e.line.contains("hf_other"), "{e}");
}

#[test]
fn what_the_disk_has_no_room_for_is_not_begun() {
    let hub = Hub::start(|asked, _| match asked.target.starts_with("/api/") {
        true => reply(200, listing(&[("m.gguf", 1 << 60, "0".repeat(64))]).to_string()),
        false => Reply(200, vec![("Content-Length", (1u64 << 60).to_string())], b"GGUF".to_vec()),
    });
    let store = store("space");
    for name in ["org/repo".to_owned(), hub.url("m.gguf")] {
        fails(
            &store,
            &name,
            &options(&hub.url("")),
            Kind::Space,
            &["1073741824.00 GiB are needed", "WEFT_MODELS"],
        );
        assert!(files(&store).is_empty() && store.partial().is_empty());
    }
    // The hub was asked what there is, and for nothing more.
    assert_eq!(hub.asked().iter().filter(|a| a.target.contains("resolve")).count(), 0);
}

#[test]
fn what_is_no_model_gets_no_model_s_name() {
    let whole = gguf(1000, 0.0, None);
    let short = whole[..whole.len() - 100].to_vec();
    let shard = gguf(10, 0.0, Some((1, 3)));
    for (bytes, part) in [
        (b"<!doctype html><html>".to_vec(), "begins with \"<!do\""),
        (short, "ends at byte"),
        (shard, "file 2 of 3"),
        (b"GG".to_vec(), "truncated"),
    ] {
        let hub = Hub::start(move |asked, _| file(asked, &bytes, "\"a\""));
        let store = store("format");
        fails(&store, &hub.url("m.gguf"), &options(&hub.url("")), Kind::Format, &[part]);
        assert!(files(&store).is_empty() && store.partial().is_empty(), "{:?}", files(&store));
    }
}

#[test]
fn a_split_model_is_there_whole_or_not() {
    let shards: Vec<Vec<u8>> = (0..3).map(|i| gguf(1000, f32::from(i), Some((i, 3)))).collect();
    let names = ["x/m-F16-00001-of-00003.gguf", "x/m-F16-00002-of-00003.gguf", "x/m-F16-00003-of-00003.gguf"];
    let all: Vec<_> = names.into_iter().zip(shards.clone()).collect();
    let (good, well) = (holding(all), Arc::new(AtomicBool::new(false)));
    let is_well = well.clone();
    let hub = Hub::start(move |asked, n| {
        match asked.target.contains("00003-of") && !is_well.load(Ordering::SeqCst) {
            true => reply(404, ""),
            false => good(asked, n),
        }
    });
    let (store, options) = (store("split"), options(&hub.url("")));
    fails(&store, "org/repo:F16", &options, Kind::Missing, &["m-F16-00003-of-00003.gguf"]);
    assert!(store.list().is_empty());
    assert_eq!(files(&store), ["m-F16-00001-of-00003.gguf.part", "m-F16-00002-of-00003.gguf.part"]);
    well.store(true, Ordering::SeqCst);
    let before = hub.asked().len();
    let pulled = get(&store, "org/repo:F16", &options).unwrap();
    assert_eq!(hub.asked().len(), before + 2, "the list, and the part that lacks");
    assert_eq!((pulled.entry.name.as_str(), pulled.entry.files.len()), ("m-F16", 3));
    pulled.entry.files.iter().zip(&shards).for_each(|(path, bytes)| is(path, bytes));
    std::fs::remove_file(&pulled.entry.files[1]).unwrap();
    assert!(store.list().is_empty());
    // By an address too, under another name.
    let (store, renamed) =
        (crate::store("split-url"), Options { rename: Some("other".into()), ..options.clone() });
    let url = hub.url("org/repo/resolve/abc123/x/m-F16-00002-of-00003.gguf");
    assert_eq!(get(&store, &url, &renamed).unwrap().entry.name, "other");
    assert_eq!(files(&store)[0], "other-00001-of-00003.gguf");
}

#[test]
fn two_pulls_of_one_do_not_fight() {
    let bytes = gguf(50_000, 0.0, None);
    let here = store("twice");
    let (other, inner) = (here.clone(), Arc::new(AtomicUsize::new(0)));
    let count = inner.clone();
    let hub = Hub::start(move |asked, n| {
        if n == 0 {
            // As long as the first is on its way, a second one is refused.
            let url = format!("http://{}/model.gguf", asked.header("host").expect("a host"));
            let e = get(&other, &url, &options(&url)).expect_err("busy");
            assert_eq!(e.kind, Kind::Busy);
            assert_eq!(other.remove("model").unwrap_err().kind, Kind::Missing);
            count.fetch_add(1, Ordering::SeqCst);
        }
        file(asked, &bytes, "\"a\"")
    });
    get(&here, &hub.url("model.gguf"), &options(&hub.url(""))).unwrap();
    assert_eq!(inner.load(Ordering::SeqCst), 1);
}

#[test]
fn who_stops_goes_on_later() {
    let bytes = gguf(500_000, 0.0, None);
    let want = bytes.clone();
    let hub = Hub::start(move |asked, _| file(asked, &bytes, "\"a\""));
    let (store, options, url) = (store("stop"), options(&hub.url("")), hub.url("model.gguf"));
    let (name, asked) = (Name::parse(&url).unwrap(), AtomicBool::new(false));
    let mut told = |p: &weft_hub::Progress<'_>| asked.store(p.done > 0, Ordering::SeqCst);
    let e = pull(&store, &name, &options, &|| asked.load(Ordering::SeqCst), &mut told).unwrap_err();
    assert_eq!(e.kind, Kind::Stopped);
    assert_eq!(files(&store), ["model.gguf.part"]);
    is(&get(&store, &url, &options).unwrap().entry.files[0], &want);
    assert!(hub.asked().last().unwrap().from() > Some(0));
    // What is left of one that nobody goes on with can be removed.
    let again = Store::at(store.folder().join("again"));
    asked.store(false, Ordering::SeqCst);
    let mut told = |p: &weft_hub::Progress<'_>| asked.store(p.done > 0, Ordering::SeqCst);
    pull(&again, &name, &options, &|| asked.load(Ordering::SeqCst), &mut told).unwrap_err();
    assert!(again.remove("model").unwrap() > 0 && files(&again).is_empty() && again.partial().is_empty());
}

#[test]
fn a_silent_server_is_not_waited_for_for_ever() {
    let hub = Hub::start(|_, _| {
        std::thread::sleep(Duration::from_secs(3));
        reply(200, "")
    });
    let short = Options { stall: Duration::from_millis(300), tries: 1, ..options(&hub.url("")) };
    fails(&store("silent"), "org/repo", &short, Kind::Network, &["nothing came for"]);
}

#[test]
fn a_name_that_is_taken_stays() {
    let (bytes, mine) = (gguf(100, 0.0, None), gguf(200, 1.0, None));
    let hub = Hub::start(move |asked, _| file(asked, &bytes, "\"a\""));
    let (store, options) = (store("taken"), options(&hub.url("")));
    std::fs::create_dir_all(store.folder()).unwrap();
    let path: PathBuf = store.folder().join("m.gguf");
    std::fs::write(&path, &mine).unwrap();
    fails(&store, &hub.url("m.gguf"), &options, Kind::Taken, &["was not pulled", "--as"]);
    is(&path, &mine);
    let renamed = Options { rename: Some("n".into()), ..options.clone() };
    get(&store, &hub.url("a/m.gguf"), &renamed).unwrap();
    fails(&store, &hub.url("b/m.gguf"), &renamed, Kind::Taken, &["a/m.gguf"]);
    for rename in ["../x", ".x", "a/b", "", "x-00001-of-00002"] {
        let renamed = Options { rename: Some(rename.into()), ..options.clone() };
        fails(&store, &hub.url("m.gguf"), &renamed, Kind::Name, &["--as"]);
    }
    fails(&store, &hub.url("file"), &options, Kind::Name, &["--as"]);
    let mut go = |_| std::ops::ControlFlow::Continue(());
    assert_eq!(store.verify("m", &mut go).unwrap(), Verdict::Whole);
}
