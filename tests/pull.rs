//! `weft pull` and `weft models` as a person runs them, against a hub of ours on loopback.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::hub::{Hub, cut, file, gguf, holding, sum};
use crate::support::cli::{command, fails, folder, json, misused, ok};

#[test]
fn a_model_is_pulled_listed_used_and_removed() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/assets/weft-mini.gguf");
    let bytes = std::fs::read(mini).expect("weft-mini");
    let (want, size) = (sum(&bytes), bytes.len() as u64);
    let hub = Hub::start(holding(vec![("mini-Q5_K.gguf", bytes), ("mini-F32.gguf", gguf(100, 0.0, None))]));
    let (endpoint, dir) = (hub.url(""), folder("pull"));
    let dir = dir.to_str().expect("UTF-8");
    let pull = ["pull", "--endpoint", &endpoint, "--models", dir];
    let told = json(&[&pull[..], &["hf.co/org/repo:q5_k", "--json"]].concat());
    assert_eq!(
        (&told["name"], &told["size"], &told["was_there"]),
        (&"mini-Q5_K".into(), &size.into(), &false.into())
    );
    assert_eq!(told["pulled"]["files"][0]["sha256"], want);
    assert!(ok(&[&pull[..], &["org/repo:q5_k"]].concat()).contains("was there already"));
    fails(&[&pull[..], &["org/repo"]].concat(), &["org/repo:QUANT", "mini-F32.gguf, mini-Q5_K.gguf"]);
    misused(&[&pull[..], &["../etc/passwd"]].concat(), &["ORG/REPO:QUANT"]);
    fails(&[&pull[..], &["org/repo:F32", "--as", "mini-Q5_K"]].concat(), &["there already"]);
    assert!(ok(&["models", "--models", dir]).contains("org/repo:q5_k"));
    assert!(ok(&["models", "show", "mini-Q5_K", "--models", dir]).contains(&want));
    assert!(ok(&["models", "verify", "--models", dir]).contains("those that were pulled"));
    // Other commands find it by its name.
    let run = |name: &str| {
        let mut tokenize = command(&["tokenize", "-m", name, "Hello"]);
        let out = tokenize.env("WEFT_MODELS", dir).output().expect("weft runs");
        (out.status.code(), String::from_utf8(out.stdout).expect("UTF-8"))
    };
    let own = ok(&["tokenize", "Hello"]);
    assert_eq!([run("mini-Q5_K"), run("org/repo:q5_k")], [(Some(0), own.clone()), (Some(0), own)]);
    assert_eq!(run("mini-Q6_K").0, Some(1));
    std::fs::write(Path::new(dir).join("mini-Q5_K.gguf"), b"GGUF").expect("written");
    let ran = crate::support::cli::weft(&["models", "verify", "--models", dir]);
    assert!(ran.code == Some(1) && ran.stdout.contains("has 4 bytes"), "{}{}", ran.stdout, ran.stderr);
    assert!(ok(&["models", "remove", "mini-Q5_K", "--models", dir]).contains("is removed"));
    let none: Value = json(&["models", "list", "--json", "--models", dir]);
    assert_eq!(none["models"].as_array().map(Vec::len), Some(0));
    fails(&["models", "remove", "mini-Q5_K", "--models", dir], &["there is no model"]);
}

/// Ctrl-C keeps what came, and the same command goes on from there.
#[cfg(unix)]
#[test]
fn a_pull_that_is_stopped_goes_on() {
    let bytes = gguf(50_000, 0.0, None);
    let hub = Hub::start(move |asked, n| match n {
        0 => cut(file(asked, &bytes, "\"a\""), 60_000),
        1 => cut(file(asked, &bytes, "\"a\""), 0),
        _ => file(asked, &bytes, "\"a\""),
    });
    let dir = folder("pull-stopped");
    let dir = dir.to_str().expect("UTF-8");
    let url = hub.url("model.gguf");
    let args = ["pull", "--models", dir, &url];
    let mut child = command(&args).spawn().expect("weft starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|l| l.contains("trying again")), "it broke off, and is tried again");
    // SAFETY: sends a signal to the child, which is there until it is waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert!(lines.any(|l| l.contains("the same command goes on")));
    assert_eq!(child.wait().expect("weft ends").code(), Some(130));
    assert!(ok(&["models", "--models", dir]).contains("58.6 KiB of 195.4 KiB are there"));
    assert!(ok(&args).contains("model is there"));
    assert_eq!(hub.asked().last().expect("a request").from(), Some(60_000));
}
