//! `weft tune` and what reads its file.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cli::{command, fails, folder, json, ok, weft};

/// An entry that no default is like, for the attention of the model on board.
fn entry(constants: &Value) -> Value {
    let all = json!([0, u32::MAX]);
    json!({
        "op": "attention_decode",
        "type": "f16",
        "shape": { "positions": all, "heads": all, "head_dim": all },
        "constants": constants,
    })
}

#[test]
fn what_it_writes_is_read_and_can_be_left_out() {
    let folder = folder("tune");
    let path = folder.join("tune.json");
    let file = path.to_str().expect("UTF-8");
    let start = Instant::now();
    let text = ok(&["tune", "--quick", "--type", "f16", "--seconds", "5", "-o", file]);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(text.contains("default us") && text.contains(file), "{text}");
    // A file alone: nothing of a temporary name is left.
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1);
    let mut tuning: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("a JSON file");
    assert_eq!((tuning["format"].as_u64(), tuning["date"].as_str().map(str::len)), (Some(1), Some(10)));
    assert!(tuning["device"].is_string() && tuning["driver"].is_string() && tuning["entries"].is_array());

    // What is in it runs, and computes the same.
    tuning["entries"] = json!([
        entry(&json!({ "heads": 1, "splits": 1, "values": 16, "prefetch": 4 })),
        entry(&json!({ "heads": 3, "splits": 1, "values": 16, "prefetch": 4 })),
    ]);
    std::fs::write(&path, tuning.to_string()).expect("a file");
    let explain = |flags: &[&str]| {
        let ran = weft(&[&["run", "--explain", "What is 17 + 25?"], flags].concat());
        assert!(ran.code == Some(0) && ran.stdout.ends_with("The answer is 42."), "{}", ran.stderr);
        ran.stderr
    };
    let with = explain(&["--tuning", file]);
    assert!(with.contains(&format!("tuning: {file}, 1 entries")), "{with}");
    // One line says what does not count.
    let warnings: Vec<&str> = with.lines().filter(|l| l.starts_with("warning: ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains(file) && warnings[0].contains("entry 2"), "{with}");
    let without = explain(&["--tuning", "off"]);
    assert!(without.contains("tuning: none") && !without.contains("warning"), "{without}");
    if with.contains("attention_decode") {
        assert!(with.contains("_l16x4w8_") && !without.contains("_l16x4w8_"), "{with}\n{without}");
    }
    let bench =
        |tuning: &str| json(&["bench", "-p", "0", "-n", "2", "-r", "1", "-o", "json", "--tuning", tuning]);
    assert_eq!(bench(file)[0]["tuning"], file);
    assert_eq!(bench("off")[0]["tuning"], Value::Null);

    // Cut off, it is worth a warning.
    let whole = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("a file");
    let cut = explain(&["--tuning", file]);
    assert!(cut.contains("is no whole JSON file; ignored") && cut.contains("tuning: none"), "{cut}");
    fails(&["run", "--tuning", "/nowhere/tune.json", "x"], &["/nowhere/tune.json", "weft tune -o"]);
}

#[test]
fn a_device_has_its_own_file_until_it_is_removed() {
    let folder = folder("tune-own");
    let run = |args: &[&str]| {
        let out = command(args).env("WEFT_CACHE", &folder).output().expect("weft ends");
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let tuned = run(&["tune", "--quick", "--type", "f16", "--seconds", "0", "--json"]);
    let tuned: Value = serde_json::from_str(&tuned).expect("JSON");
    let file = tuned["file"].as_str().expect("a file");
    assert!(file.starts_with(folder.to_str().expect("UTF-8")), "{file}");
    // No time is enough for nothing, and that is said.
    assert_eq!(tuned["rows"].as_array().map(Vec::len), Some(0));
    let left = tuned["not_measured"].as_array().expect("what is left");
    assert!(left.iter().all(|l| l["why"] == "0 s were over"), "{tuned}");
    let devices: Value = serde_json::from_str(&run(&["devices", "--json"])).expect("JSON");
    assert_eq!(devices[0]["tuning"], file);
    assert!(run(&["kernels", "list", "--explain"]).contains(&format!("tuning: {file}, 0 entries")));
    assert!(run(&["tune", "--remove"]).contains("deleted"));
    assert!(run(&["tune", "--remove"]).contains("not there"));
    let removed: Value = serde_json::from_str(&run(&["tune", "--remove", "--json"])).expect("JSON");
    assert_eq!(removed, json!({ "file": file, "deleted": false }));
    assert!(run(&["devices"]).contains("tuning    none"));
}

#[test]
fn what_it_cannot_do_is_said() {
    fails(
        &["tune", "-o", "/nowhere/at/all/tune.json"],
        &["/nowhere/at/all/tune.json", "folder does not exist"],
    );
    let ran = weft(&["tune", "--type", "q9"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("known: "), "{}", ran.stderr);
    let out = command(&["tune"]).env("WEFT_CACHE", "off").output().expect("weft ends");
    assert!(out.status.code() == Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(String::from_utf8_lossy(&out.stderr).contains("WEFT_CACHE is off"));
}
