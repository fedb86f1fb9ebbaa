//! `weft finetune` as a user types it, on weft-mini: what it leaves, what it refuses, what survives a kill.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_formats::adapter::{Adapter, Base};

use crate::cli_bad_input;
use crate::support::cli::{command, fails, file, folder, json, ok, weft};

/// Eight short conversations.
pub(crate) fn data(folder: &Path) -> String {
    let line = |i: u32| {
        let (q, a) = (format!("What is {i} + 2?"), format!("The answer is {}.", i + 2));
        serde_json::json!({ "prompt": q, "completion": a }).to_string() + "\n"
    };
    file(folder, "data.jsonl", (0..8).map(line).collect::<String>().as_bytes())
}

/// A run of 40 steps on two matrices, with dropout; a checkpoint every other step.
const RUN: [&str; 17] = [
    "--steps",
    "40",
    "--batch",
    "1",
    "--rank",
    "2",
    "--targets",
    "k,o",
    "--save-every",
    "2",
    "--dropout",
    "0.1",
    "--warmup",
    "0.1",
    "--weight-decay",
    "0.1",
    "--rslora",
];

/// The first layer of weft-mini, whose steps take a ninth of the time.
pub(crate) fn layer(folder: &Path) -> String {
    file(folder, "layer.gguf", &cli_bad_input::changed(|_, _| {}))
}

fn base() -> Base {
    Base { architecture: "qwen3".to_owned(), heads: 1, kv_heads: 1 }
}

/// What does not depend on time, of every step.
fn curve(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("metrics");
    let numbers = |line: &str| {
        let m: Value = serde_json::from_str(line).expect("a line of JSON");
        format!("{} {} {} {}", m["step"], m["loss"], m["lr"], m["grad_norm"])
    };
    text.lines().map(numbers).collect()
}

/// Every file in the folder that has its name loads.
fn everything_loads(folder: &Path) -> u64 {
    let mut last = 0;
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if let Some(step) = name.strip_prefix("checkpoint-") {
            last = last.max(step.parse().expect("a step"));
            let run = std::fs::read(path.join("run.json")).expect("run.json");
            let run: Value = serde_json::from_slice(&run).expect("run.json");
            assert_eq!(run["step"].as_u64(), step.parse().ok());
            Adapter::open(&path.join("adapter.gguf"), &base()).expect("an adapter");
            let state = std::fs::read(path.join("state.safetensors")).expect("a state");
            let state = safetensors::SafeTensors::deserialize(&state).expect("a state");
            assert_eq!(state.names().len(), 3);
        } else if name == "adapter.gguf" {
            Adapter::open(&path, &base()).expect("an adapter");
        } else if name == "adapter_model.safetensors" && folder.join("adapter_config.json").exists() {
            Adapter::open(folder, &base()).expect("an adapter");
        }
    }
    last
}

/// Killed twenty times at random, and resumed each time, it is the run that was never killed; no kill costs more
/// than the steps since the last checkpoint.
#[cfg(unix)]
#[test]
fn twenty_kills_change_nothing() {
    let folder = folder("finetune-kill");
    let (data, model) = (data(&folder), layer(&folder));
    let run = |out: &Path, resume: bool| {
        let mut args = vec!["finetune", "-m", &model, "-d", &data, "-o", out.to_str().expect("UTF-8")];
        args.extend(RUN);
        args.extend(resume.then_some("--resume"));
        command(&args)
    };
    let ends_well = |done: std::process::Output| {
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (whole, start) = (folder.join("whole"), Instant::now());
    ends_well(run(&whole, false).output().expect("weft ends"));
    let (want, step) = (curve(&whole), start.elapsed() / 40);
    assert_eq!(want.len(), 40);

    let mut random = 20_260_503u64;
    let (mut kills, mut runs) = (0, 0);
    // On a busy machine a run may end before the next kill; then another one takes the rest of them.
    while kills < 20 {
        let cut = folder.join(format!("cut-{runs}"));
        runs += 1;
        let lines =
            || std::fs::read_to_string(cut.join("metrics.jsonl")).map_or(0, |t| t.lines().count() as u64);
        let mut saved = 0;
        while kills < 20 {
            let measured = lines();
            let mut child = run(&cut, saved > 0).spawn().expect("weft starts");
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Behind so many steps that are new, at a random moment of the next; or at one of the start.
            let steps = (random >> 33) % 4;
            let moment = step * ((random >> 40) % 100) as u32 / if steps == 0 { 10 } else { 100 };
            while lines() < measured + steps && child.try_wait().expect("a child").is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(moment);
            child.kill().expect("a kill");
            let ended = child.wait_with_output().expect("an end");
            if ended.status.code().is_some() {
                ends_well(ended);
                break;
            }
            kills += 1;
            saved = if cut.exists() { everything_loads(&cut) } else { 0 };
            assert!(lines() <= saved + 2, "{} steps were measured and {saved} saved", lines());
            if saved == 0 {
                // Nothing to go on from: a new run in an empty folder.
                let _ = std::fs::remove_dir_all(&cut);
            }
        }
        ends_well(run(&cut, cut.exists()).output().expect("weft ends"));
        assert_eq!(curve(&cut), want);
        for name in ["adapter.gguf", "adapter_model.safetensors", "checkpoint-00000040/state.safetensors"] {
            let bytes = |f: &Path| std::fs::read(f.join(name)).expect("a file");
            assert!(bytes(&cut) == bytes(&whole), "{name} differs");
        }
        let left = std::fs::read_dir(&cut).expect("a folder").flatten();
        let left: Vec<_> = left.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        assert!(left.iter().all(|n| !n.ends_with(".part")), "{left:?}");
    }
}

#[test]
fn a_short_run_learns_and_leaves_its_files() {
    let folder = folder("finetune-run");
    let (data, out) = (data(&folder), folder.join("out"));
    let out = out.to_str().expect("UTF-8");
    let report = json(&[
        "finetune",
        "-d",
        &data,
        "-o",
        out,
        "--epochs",
        "2",
        "--batch",
        "3",
        "--lr",
        "2e-3",
        "--schedule",
        "constant",
        "--val",
        "0.25",
        "--pack",
        "--ctx",
        "32",
        "--json",
    ]);
    assert_eq!(
        (&report["state"], report["steps"] == report["step"]),
        (&"completed".into(), true),
        "{report}"
    );
    assert!(
        report["memory"]["total"].as_u64() <= report["plan"]["total"].as_u64().map(|b| b * 2),
        "{report}"
    );
    let metrics = std::fs::read_to_string(folder.join("out/metrics.jsonl")).expect("metrics");
    let lines: Vec<Value> = metrics.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(Some(lines.len() as u64), report["steps"].as_u64());
    for key in ["step", "epoch", "loss", "accuracy", "lr", "grad_norm", "tokens", "tokens_per_s"] {
        assert!(lines.iter().all(|l| l[key].is_number()), "{key}");
    }
    let losses: Vec<f64> = lines.iter().filter_map(|l| l["val_loss"].as_f64()).collect();
    assert!(losses.len() == 2 && losses[1] < losses[0], "{losses:?}");
    assert!(
        std::fs::read_to_string(folder.join("out/loss.svg")).expect("a curve").contains("validation loss")
    );

    // Run with it, from either format, and go on training it.
    let adapter = folder.join("out/adapter.gguf");
    let adapter = adapter.to_str().expect("UTF-8");
    let ids =
        |lora: &str| json(&["run", "-n", "8", "--json", "--lora", lora, "What is 3 + 2?"])["ids"].clone();
    assert_eq!(ids(adapter), ids(out));
    let on = folder.join("on");
    let on = on.to_str().expect("UTF-8");
    let report = json(&[
        "finetune", "-d", &data, "-o", on, "--lora", adapter, "--steps", "1", "--batch", "8", "--json",
    ]);
    assert!(report["loss"].as_f64() < lines[0]["loss"].as_f64(), "{report}");
    // The run is whole.
    fails(&["finetune", "-d", &data, "-o", on, "--lora", adapter], &["holds a run already", "--resume"]);
}

/// Ctrl-C finishes the step, saves and ends well; the same command with --resume goes on.
#[cfg(unix)]
#[test]
fn an_interrupt_saves() {
    let folder = folder("finetune-interrupt");
    let (data, model, out) = (data(&folder), layer(&folder), folder.join("out"));
    let mut args = vec!["finetune", "-m", &model, "-d", &data, "-o", out.to_str().expect("UTF-8")];
    args.extend(RUN);
    let mut child = command(&args).spawn().expect("weft starts");
    let start = Instant::now();
    while !out.join("checkpoint-00000002").exists() && start.elapsed().as_secs() < 60 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    assert_eq!(child.wait().expect("weft ends").code(), Some(130));
    let steps = curve(&out).len() as u64;
    assert!((2..40).contains(&steps), "{steps}");
    assert_eq!(everything_loads(&out), steps);
    assert!(out.join("adapter.gguf").exists() && out.join("loss.svg").exists());
    let other: Vec<&str> =
        args.iter().map(|a| if *a == "k,o" { "k" } else { *a }).chain(["--resume"]).collect();
    fails_with_notes(&other, &["checkpoint-", "targets k,o there and k here"]);
}

/// As `fails`, for a run that has already said what its data and memory are.
fn fails_with_notes(args: &[&str], parts: &[&str]) {
    let ran = weft(args);
    let last = ran.stderr.lines().last().unwrap_or_default().to_owned();
    let shown = format!("weft {args:?}: code {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{shown}");
    assert!(last.starts_with("error: ") && ran.stderr.matches("error: ").count() == 1, "{shown}");
    for part in parts {
        assert!(last.contains(part), "no {part:?} in {shown}");
    }
}

#[test]
fn the_first_batch_is_shown() {
    let folder = folder("finetune-show");
    let shown = ok(&["finetune", "-d", &data(&folder), "--show-batch", "--batch", "2"]);
    assert_eq!(shown.matches("--- sequence").count(), 2);
    assert_eq!((shown.matches('⟦').count(), shown.matches("<|im_end|>⟧").count()), (2, 2), "{shown}");
    assert!(shown.contains("⟦The answer is "), "{shown}");
}

#[test]
fn bad_input() {
    let folder = folder("finetune-bad");
    let good = data(&folder);
    let out = folder.join("out");
    let out = out.to_str().expect("UTF-8");
    let tune = |data: &str, more: &[&str], parts: &[&str]| {
        let mut args = vec!["finetune", "-d", data, "-o", out];
        args.extend(more);
        fails_with_notes(&args, parts);
    };
    let line = |text: &str| file(&folder, "bad.jsonl", format!("{{\"text\": \"a\"}}\n{text}\n").as_bytes());
    tune("absent.jsonl", &[], &["absent.jsonl: no such file"]);
    tune(&line("{\"messages\": ["), &[], &["bad.jsonl: line 2: is not JSON"]);
    let bot = "{\"messages\": [{\"role\": \"bot\", \"content\": \"x\"}]}";
    tune(&line(bot), &[], &["line 2", "role \"bot\"", "system, user, assistant, tool"]);
    tune(&file(&folder, "empty.jsonl", b"\n"), &[], &["empty.jsonl: holds no examples"]);
    let silent = b"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n";
    tune(&file(&folder, "silent.jsonl", silent), &[], &["silent.jsonl", "token to learn"]);
    tune(&good, &["--ctx", "1000000"], &["--ctx 1000000", "longer than the context"]);
    let ran =
        weft(&["finetune", "-d", &good, "-o", folder.join("out").to_str().expect("UTF-8"), "--val", "1.5"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("--val 1.5"), "{}", ran.stderr);
    tune(&good, &["--val", "absent.jsonl"], &["absent.jsonl: no such file"]);
    tune(&good, &["--overlong", "error", "--ctx", "4"], &["line 1", "context of 4"]);
    tune(&good, &["--overlong", "drop", "--ctx", "4"], &["all of its 8 examples"]);
    tune(&good, &["--resume"], &[out, "no such folder"]);
    tune(&good, &["--lora", &good], &["data.jsonl", "not a GGUF file"]);
    let broken = file(&folder, "broken.jinja", b"{% if %}");
    tune(&good, &["--chat-template", &broken], &["broken.jinja", "does not parse"]);
    let picky = file(&folder, "picky.jinja", b"{{ raise_exception('no tools please') }}");
    tune(&good, &["--chat-template", &picky], &["line 1", "no tools please"]);
    assert!(!Path::new(out).exists());
    // An adapter of another rank.
    let small = ["--rank", "2", "--targets", "k", "--steps", "1", "--batch", "1"];
    let (first, second) = (folder.join("first"), folder.join("second"));
    let (first, second) = (first.to_str().expect("UTF-8"), second.to_str().expect("UTF-8"));
    let mut args = vec!["finetune", "-d", &good, "-o", first];
    args.extend(small);
    ok(&args);
    let ranks = ["finetune", "-d", &good, "-o", second, "--lora", first, "--rank", "4"];
    fails_with_notes(&ranks, &[first, "blk.0.attn_k.weight.lora_a", "rank 2", "--rank asks for 4"]);
    // A learning rate that no model survives: stopped after eight steps that are told, and what it made of the adapter is
    // not called good.
    let wild = [
        "finetune",
        "-d",
        &good,
        "-o",
        second,
        "--lr",
        "1e30",
        "--steps",
        "9",
        "--batch",
        "1",
        "--save-every",
        "1",
        "--clip",
        "0",
        "--schedule",
        "constant",
        "--rank",
        "2",
        "--targets",
        "k",
    ];
    fails_with_notes(&wild, &["steps 2 to 9: the ", "a lower --lr", "there is no good checkpoint yet"]);
    everything_loads(Path::new(second));
    for (flag, value) in [
        ("--rank", "0"),
        ("--rank", "300"),
        ("--dropout", "1"),
        ("--lr", "0"),
        ("--lr", "nan"),
        ("--batch", "0"),
        ("--warmup", "1.5"),
        ("--targets", "q,x"),
        ("--epochs", "0"),
        ("--clip", "-1"),
        ("--schedule", "step"),
    ] {
        let ran = weft(&["finetune", "-d", &good, "-o", out, &format!("{flag}={value}")]);
        assert!(ran.code == Some(2) && ran.stderr.contains(flag), "{flag} {value}: {}", ran.stderr);
    }
}

/// Writes fail from a certain size on, as on a full disk: what was there before stays.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let folder = folder("finetune-full");
    let (data, out) = (data(&folder), folder.join("out"));
    let args =
        format!("finetune -d '{data}' -o '{}' --steps 3 --batch 1 --rank 64 --save-every 1", out.display());
    let script = format!("trap '' XFSZ; ulimit -f 4000; exec \"$WEFT\" {args}");
    let done = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("WEFT", env!("CARGO_BIN_EXE_weft"))
        .output()
        .expect("a shell");
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let last = stderr.lines().last().unwrap_or_default();
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(last.starts_with("error: ") && last.contains("checkpoint-00000001"), "{stderr}");
    let left = std::fs::read_dir(&out).expect("a folder").flatten().map(|e| e.file_name());
    // The lock of a run stays, empty.
    let left: Vec<_> = left.filter(|name| name != ".lock").collect();
    assert_eq!(left, ["metrics.jsonl"], "{stderr}");
}

/// Streamed layers leave the same bytes, and what `inspect` plans of the file alone is what is taken.
#[test]
fn streamed_weights_change_no_byte() {
    let folder = folder("finetune-stream");
    let data = data(&folder);
    let run = |name: &str, more: &[&str]| {
        let out = folder.join(name);
        let out = out.to_str().expect("UTF-8");
        let mut args =
            vec!["finetune", "-d", &data, "-o", out, "--steps", "2", "--batch", "1", "--ctx", "24"];
        args.extend(["--rank", "2", "--json"]);
        args.extend(more);
        json(&args)
    };
    let (whole, streamed) = (run("whole", &[]), run("streamed", &["--stream-weights"]));
    for name in ["adapter.gguf", "adapter_model.safetensors", "checkpoint-00000002/state.safetensors"] {
        let bytes = |run: &str| std::fs::read(folder.join(run).join(name)).expect("a file");
        assert!(bytes("whole") == bytes("streamed"), "{name} differs");
    }
    assert_eq!(curve(&folder.join("whole")), curve(&folder.join("streamed")));
    let of = |report: &Value, pool: &str| report["memory"]["pools"][pool]["allocated"].as_u64();
    for report in [&whole, &streamed] {
        assert_eq!(report["plan"]["weights"].as_u64(), of(report, "weights"));
        assert_eq!(report["plan"]["staging"].as_u64(), of(report, "staging").or(Some(0)));
    }
    assert!(of(&streamed, "weights") < of(&whole, "weights").map(|b| b / 2), "{streamed}");
    let plan = |more: &[&str]| {
        let args = ["inspect", "--json", "--finetune", "1x24", "--rank", "2"];
        json(&[&args[..], more].concat())["plan"]["training"].clone()
    };
    for (report, plan) in [(&whole, plan(&[])), (&streamed, plan(&["--stream-weights"]))] {
        for part in ["weights", "staging", "adapters", "optimiser"] {
            assert_eq!(report["plan"][part], plan[part], "{part}");
        }
    }
    for (args, why) in [
        (&["inspect", "--stream-weights"][..], "--finetune"),
        (&["inspect", "--finetune", "0x16"], "not BATCHxCTX"),
        (&["inspect", "--finetune", "1x16", "-c", "64"], "cannot be used with"),
    ] {
        let ran = weft(args);
        assert!(ran.code == Some(2) && ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    }
    let huge = json(&["inspect", "--json", "--finetune", "90000x90000"]);
    assert!(huge["cannot_run"].as_str().is_some_and(|why| why.contains("tokens")), "{huge}");
}

/// With `--memory`, layers keep what fits, a run takes no more than that, and too little is refused with what would do.
#[test]
fn memory_decides_what_layers_keep() {
    let folder = folder("finetune-memory");
    let data = data(&folder);
    let run = |name: &str, memory: Option<u64>| {
        let out = folder.join(name);
        let bytes = memory.map(|m| m.to_string());
        let mut args = vec!["finetune", "-d", &data, "-o", out.to_str().expect("UTF-8"), "--steps", "1"];
        args.extend(["--batch", "1", "--ctx", "24", "--rank", "2", "--json"]);
        args.extend(bytes.iter().flat_map(|b| ["--memory", b]));
        weft(&args)
    };
    let report = |name: &str, memory| {
        let ran = run(name, memory);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str::<Value>(&ran.stdout).expect("a report")
    };
    let number = |report: &Value, path: &str| report.pointer(path).and_then(Value::as_u64).expect("a number");
    let kept = |report: &Value| {
        ["all", "all_in_halves", "input"].map(|k| number(report, &format!("/plan/layers_keep/{k}")))
    };
    let (least, most) = (report("least", None), report("most", Some(1 << 30)));
    assert_eq!((kept(&least), kept(&most)), ([0, 0, 9], [9, 0, 0]));
    let [low, high] = [&least, &most].map(|r| number(r, "/plan/total"));
    let middle = low.midpoint(high);
    let some = report("some", Some(middle));
    let [all, halves, input] = kept(&some);
    assert!(all + halves > 0 && all < 9 && all + halves + input == 9, "{some}");
    assert!(number(&some, "/plan/total") <= middle, "{some}");
    let pools = &some["memory"]["pools"];
    assert_eq!(pools["kept activations"]["allocated"], some["plan"]["activations"], "{some}");
    let refused = run("none", Some(low - 1));
    assert_eq!(refused.code, Some(1));
    let said = refused.stderr.lines().last().expect("a line");
    assert!(said.contains("may be taken") && said.contains("the largest batch"), "{said}");
    assert!(!folder.join("none").join("adapter.gguf").exists());
}
