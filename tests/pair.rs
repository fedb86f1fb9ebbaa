//! Two Wefts, as people run them: one shows a code, the other uses its model.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::serve::Server;
use crate::support::cli::{command, fails, folder, misused, ok, weft};

/// Head and body of the answer to a question.
fn ask(server: &Server, model: &str) -> (String, Value) {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "What is 17 + 25?" }] });
    let (head, body) = server.exchange("POST", "/v1/chat/completions", "", &body.to_string());
    (head.to_lowercase(), serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

#[test]
fn one_weft_uses_another() {
    let dir = folder("pair").display().to_string();
    let (there, here) = (format!("{dir}/there"), format!("{dir}/here"));
    let at = ["--peer-address", "127.0.0.1:0", "--machine-name", "desk", "--pair-dir", &there];
    let desk = Server::start(&[&["--pair"], &at[..]].concat());
    let shown = desk.said.lines().find_map(|l| l.trim().split_once("weft pair ").map(|(_, c)| c.to_owned()));
    let code = shown.unwrap_or_else(|| panic!("{}", desk.said));
    let name = ["--machine-name", "laptop"];
    let pair = |code: &str| weft(&[&["pair", code, "--pair-dir", &here], &name[..]].concat());
    let paired = pair(&code);
    assert_eq!(paired.code, Some(0), "{}", paired.stderr);
    assert!(paired.stderr.contains("paired with \"desk\" at 127.0.0.1:"), "{}", paired.stderr);
    let again = pair(&code);
    assert!(
        again.code == Some(1) && again.stderr.contains("the code is wrong, was used"),
        "{}",
        again.stderr
    );
    assert!(ok(&["pair", "--list", "--pair-dir", &here]).starts_with("desk at 127.0.0.1:"));
    assert_eq!(ok(&["pair", "--list", "--pair-dir", &there]), "laptop: may use the models of this machine\n");

    let args = [&["--alias", "own", "--pair-dir", &here], &name[..]].concat();
    let laptop = Server::start(&args);
    let (_, models) = laptop.send("GET", "/v1/models", "", "");
    assert!(models.contains("\"id\":\"own\"") && models.contains("\"id\":\"weft-mini@desk\""), "{models}");
    let (head, answer) = ask(&laptop, "weft-mini@desk");
    assert!(head.contains("x-weft-machine: desk"), "{head}");
    assert_eq!(answer["choices"][0]["message"]["content"], "The answer is 42.", "{answer}");
    assert_eq!(answer["model"], "weft-mini@desk");

    fails(&["pair", "--remove", "nobody", "--pair-dir", &here], &["no machine is called \"nobody\""]);
    assert_eq!(weft(&["pair", "--remove", "desk", "--pair-dir", &here]).code, Some(0));
    // A server that runs knows it at once.
    let (head, answer) = ask(&laptop, "weft-mini@desk");
    assert!(head.starts_with("http/1.1 404") && answer["error"]["code"] == "model_not_found", "{answer}");
}

#[test]
fn what_cannot_be_paired_with_is_said_in_a_line() {
    let folder = folder("pair-wrong");
    let dir = folder.display();
    let pair =
        |code: &str, parts: &[&str]| fails(&["pair", code, "--pair-dir", &format!("{dir}/keys")], parts);
    misused(&["pair", "0000-0000-0000@127.0.0.1"], &["a code has 16 letters and digits"]);
    misused(&["pair", "0000-0000-0000-0000@http://a"], &["is no host"]);
    pair("0000-0000-0000-0000@127.0.0.1:1", &["127.0.0.1:1: nothing listens there"]);
    assert_eq!(weft(&["pair"]).code, Some(2));
    let file = crate::support::cli::file(&folder, "no-folder", b"");
    fails(&["pair", "0000-0000-0000-0000@127.0.0.1:1", "--pair-dir", &format!("{file}/a")], &["no-folder"]);
}

/// Killed at any moment, a machine has a key that is whole or none, and the list of before or of after.
#[cfg(unix)]
#[test]
fn keys_and_lists_outlive_a_kill() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder("pair-kill").display().to_string();
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let (mut whole, mut none, mut changed) = (0, 0, 0);
    let list = "{\"machines\":[{\"name\":\"desk\",\"address\":\"127.0.0.1:1\",\"key\":\"00\"}]}";
    for i in 0..60_u32 {
        let keys = format!("{dir}/{i}");
        let file = |name: &str| Path::new(&keys).join(name);
        let is_new = i % 2 == 0;
        let args: &[&str] = match is_new {
            true => &["pair", "0000-0000-0000-0000@127.0.0.1:1"],
            false => &["pair", "--remove", "desk"],
        };
        if !is_new {
            std::fs::create_dir(&keys).expect("made");
            std::fs::write(file("machines.json"), list).expect("written");
            std::fs::set_permissions(file("machines.json"), std::fs::Permissions::from_mode(0o600))
                .expect("set");
        }
        let mut child = command(&[args, &["--pair-dir", &keys]].concat()).spawn().expect("weft starts");
        std::thread::sleep(Duration::from_micros(u64::from(i * 7919 % 60) * 500));
        let _ = child.kill();
        let _ = child.wait();
        match is_new {
            true if file("identity.key").exists() => {
                let key = std::fs::read_to_string(file("identity.key")).expect("a key");
                assert!(key.len() == 65 && key.trim().chars().all(|c| c.is_ascii_hexdigit()), "{key:?}");
                assert_eq!((mode(&file("identity.key")), mode(Path::new(&keys))), (0o600, 0o700));
                whole += 1;
            }
            true => none += 1,
            false => {
                let text = std::fs::read_to_string(file("machines.json")).expect("a list");
                let now: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
                let count = now["machines"].as_array().expect("machines").len();
                assert!(count < 2 && mode(&file("machines.json")) == 0o600);
                changed += u32::from(count == 0);
            }
        }
        // What was left behind is in nobody's way.
        assert!(
            weft(&["pair", "--remove", "x", "--pair-dir", &keys]).stderr.contains("no machine is called")
        );
    }
    println!("of 30 keys {whole} were whole and {none} not there; of 30 lists {changed} were changed");
}

/// Over a wire that is cut and mended, where this user may make network namespaces; else the script says why not.
#[cfg(target_os = "linux")]
#[test]
fn a_wire_is_cut_and_mended() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/namespaces.sh");
    let ran = std::process::Command::new(script).arg(env!("CARGO_BIN_EXE_weft")).output().expect("bash runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.starts_with("skipped: ") || said.contains("used again: answered by desk"), "{said}");
    println!("{said}");
}
