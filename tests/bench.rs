//! `weft bench` as a user types it.

use serde_json::Value;

use crate::support::cli::{command, fails, folder, json, misused, ok, weft};

/// Small and of one layer, but with all types of its mixture.
const SMALL: [&str; 8] =
    ["bench", "--synthetic", "qwen3-0.6b:q4_0", "--layers", "1", "-r", "2", "--no-warmup"];

/// The fields of a test, which scripts rely on.
const FIELDS: [&str; 44] = [
    "version",
    "device",
    "device_kind",
    "backend",
    "driver",
    "features",
    "limits",
    "variants",
    "tuning",
    "copy_bytes_per_s",
    "matrix_flops_per_s",
    "model_filename",
    "synthetic",
    "model_arch",
    "model_type",
    "model_layers",
    "model_n_params",
    "model_size",
    "weights_bytes",
    "cache_type",
    "chunk",
    "load_s",
    "test",
    "n_prompt",
    "n_gen",
    "n_depth",
    "n_streams",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
    "bytes_per_token",
    "flops_per_token",
    "bytes_per_s",
    "flops_per_s",
    "of_copy",
    "of_matrix",
    "dispatches",
    "submits",
    "gpu_busy",
    "longest_submit_ms",
    "profile",
];

#[test]
fn every_kind_of_test_on_the_model_on_board() {
    let all = json(&["bench", "-p", "9", "-n", "3", "-d", "0,5", "-b", "1,3", "-r", "2", "-o", "json"]);
    let rows = all.as_array().expect("rows");
    let names: Vec<&str> = rows.iter().map(|r| r["test"].as_str().expect("a name")).collect();
    assert_eq!(names, ["pp9", "tg3", "tg3 x 3", "pp9 @ d5", "tg3 @ d5", "tg3 x 3 @ d5"]);
    for row in rows {
        let keys: Vec<&str> = row.as_object().expect("fields").keys().map(String::as_str).collect();
        assert_eq!(keys[..FIELDS.len()], FIELDS);
        assert_eq!(row["samples_ts"].as_array().map(Vec::len), Some(2));
        // Means that fit each other and the count of tokens.
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {}", row[key]));
        let tokens = (number("n_prompt") + number("n_gen")) * number("n_streams");
        let samples = |key: &str| {
            row[key]
                .as_array()
                .expect("samples")
                .iter()
                .map(|v| v.as_f64().expect("a number"))
                .collect::<Vec<_>>()
        };
        for (ns, ts) in samples("samples_ns").iter().zip(samples("samples_ts")) {
            assert!((tokens / ns * 1e9 / ts - 1.0).abs() < 1e-6, "{row}");
        }
        assert!(number("avg_ts") > 0.0 && number("longest_submit_ms") > 0.0 && number("dispatches") > 9.0);
        assert!(number("of_copy") > 0.0 && number("of_matrix") > 0.0);
    }
    // A deeper cache is more to read, and so are more slots, though less for each of them.
    let bytes = |i: usize| rows[i]["bytes_per_token"].as_f64().expect("bytes");
    assert!(bytes(4) > bytes(1) && bytes(2) < bytes(1) && bytes(2) * 3.0 > bytes(1));
}

#[test]
fn a_synthetic_model_as_markdown_and_csv() {
    let args = [&SMALL[..], &["-p", "5", "-n", "2", "--output-err", "csv"]].concat();
    let ran = weft(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in
        ["qwen3-0.6b:q4_0: qwen3 Q4_0, 1 layers", "made-up weights", "ceilings: a copy", "| pp5 ", "| tg2 "]
    {
        assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
    }
    let lines: Vec<&str> = ran.stdout.lines().filter(|l| l.starts_with('|')).collect();
    let widths: Vec<usize> = lines.iter().map(|l| l.chars().count()).collect();
    assert!(lines.len() == 4 && widths.iter().all(|&w| w == widths[0] && w < 130), "{}", ran.stdout);
    let csv: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(csv.len(), 3, "{}", ran.stderr);
    assert!(csv[0].starts_with(&FIELDS.join(",")), "{}", csv[0]);
    // No text in it has a comma or a quote of its own, but for the driver's.
    let fields = |line: &str| {
        let mut quoted = false;
        1 + line
            .chars()
            .filter(|&c| {
                quoted ^= c == '"';
                c == ',' && !quoted
            })
            .count()
    };
    assert!(csv.iter().all(|l| fields(l) == fields(csv[0])), "{}", ran.stderr);
}

/// The whole model and the first layers of it, of a file and made up: the weights are where they should be.
#[test]
fn layers_and_cache_types_change_what_is_read() {
    let row = |more: &[&str]| -> Value {
        let args = [&SMALL[..], &["-p", "0", "-n", "1", "-o", "json"], more].concat();
        json(&args)[0].clone()
    };
    let (one, small) = (row(&["-d", "64"]), row(&["-d", "64", "--cache-type", "q4_0"]));
    assert_eq!(
        (&one["model_layers"], &one["synthetic"], &one["cache_type"]),
        (&1.into(), &true.into(), &"f16".into())
    );
    assert!(one["bytes_per_token"].as_f64() > small["bytes_per_token"].as_f64());
    assert!(one["weights_bytes"].as_f64() >= one["model_size"].as_f64());
}

#[test]
fn what_is_unknown_lists_what_is_known() {
    let synthetic = |text| misused(&["bench", "--synthetic", text], &["--synthetic", "known: "]);
    synthetic("qwen3-5b:q4_k_m");
    synthetic("qwen3-4b:q4_x");
    misused(&["bench", "--synthetic", "qwen3-4b"], &["SHAPE:TYPE", "llama-3.1-8b", "q4_k_m"]);
    misused(&["bench", "--synthetic", "qwen3-4b:q8_0", "--layers", "37"], &["1 to 36 layers"]);
    misused(&["bench", "-p", "0", "-n", "0"], &["nothing to measure", "-p"]);
    fails(&["bench", "-m", "no-such.gguf"], &["no-such.gguf"]);
    for args in [["-r", "0"], ["-b", "257"], ["-o", "xml"], ["-p", "x"]] {
        assert_eq!(weft(&[&["bench"][..], &args].concat()).code, Some(2), "{args:?}");
    }
    // What would be left unread.
    for args in [
        &["--requests", "5"][..],
        &["--arrivals", "5", "-d", "64"],
        &["--arrivals", "5", "-r", "2"],
        &["--arrivals", "5", "-p", "8,16"],
        &["--url", "http://127.0.0.1:9/v1", "-b", "4"],
        &["--url", "http://127.0.0.1:9/v1", "--device", "0"],
        &["--url", "http://127.0.0.1:9/v1", "--cache-type", "q8_0"],
        &["--url", "http://127.0.0.1:9/v1", "-o", "csv"],
        &["--arrivals", "5", "-o", "csv"],
    ] {
        assert_eq!(weft(&[&["bench"][..], args].concat()).code, Some(2), "{args:?}");
    }
    let help = ok(&["bench", "--help"]);
    assert!(help.contains("Examples:") && help.contains("--synthetic qwen3-4b:q4_k_m"));
}

/// More than any device has: refused before a byte is taken.
#[test]
fn a_context_too_large_is_refused() {
    fails(&["bench", "-p", "0", "-n", "1", "-d", "16000000"], &["needs", "KV cache", "context"]);
}

/// Ctrl-C in the middle: nothing half written on stdout, code 130.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_bench() {
    let child = command(&["bench", "-p", "2000", "-n", "2000", "-r", "50", "-o", "json"])
        .spawn()
        .expect("weft starts");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let out = child.wait_with_output().expect("weft ends");
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout.is_empty() && out.stderr.is_empty());
}

#[test]
fn a_profile_and_its_trace() {
    let trace = folder("bench").join("trace.json");
    let path = trace.display().to_string();
    let args = ["bench", "-p", "9", "-n", "2", "-r", "1", "--profile", "--trace", &path];
    let ran = weft(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in ["| kernel ", "pp9: ", "tg2: ", "matmul", "sample", "share"] {
        assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
    }
    assert!(ran.stderr.contains(&path), "{}", ran.stderr);
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let events: Value = serde_json::from_str(&text).expect("JSON");
    let events = events["traceEvents"].as_array().expect("events");
    // What the table says, one by one: in order, and none before the one before has ended.
    let of = |pid: u64| events.iter().filter(move |e| e["ph"] == "X" && e["pid"] == pid);
    let counts = [of(0).count(), of(1).count()];
    let rows = json(&["bench", "-p", "9", "-n", "2", "-r", "1", "-o", "json"]);
    assert_eq!(counts.map(|n| n as u64), [0, 1].map(|i| rows[i]["dispatches"].as_u64().expect("a count")));
    let mut end = 0.0;
    for e in of(0) {
        let (ts, dur) = (e["ts"].as_f64().expect("ts"), e["dur"].as_f64().expect("dur"));
        assert!(ts >= end - 0.01 && dur >= 0.0, "{e} after {end}");
        end = ts + dur;
    }
    fails(
        &["bench", "-p", "9", "-n", "0", "-r", "1", "--profile", "--trace", "/no/such/folder/t"],
        &["/no/such"],
    );
}

/// Between the submits of one batch, not after it.
#[test]
fn a_prompt_ends_between_two_submits() {
    use std::ops::ControlFlow;
    use weft_models::{DeviceOptions, Error, Model, Options, Sampling};
    let few = weft_kernels::Budget { submit_dispatches: 16, ..weft_kernels::Budget::WEBGPU };
    let device = DeviceOptions { budget: Some(few), ..DeviceOptions::default() };
    let options = Options { device, chunk: Some(32), ..Options::default() };
    let model = Model::open(weft_harness::mini::GGUF.to_vec(), &options).expect("the model on board");
    let mut session = model.session(64).expect("a session");
    let prompt: Vec<u32> = (5..25).collect();
    let draw = |session: &mut weft_models::Session, most: u32| {
        let mut asked = 0;
        let mut answer = session.generate_with(&prompt, &Sampling::greedy(), 3, &mut |_, _| {
            asked += 1;
            if asked > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let mut ids = Vec::new();
        while let Some(id) = answer.next_token()? {
            ids.push(id);
        }
        Ok::<_, Error>((ids, asked))
    };
    // One batch of some 80 dispatches asks more often than once; what was stopped leaves nothing behind.
    assert!(matches!(draw(&mut session, 2), Err(Error::Cancelled)));
    let (after, asked) = draw(&mut session, u32::MAX).expect("an answer");
    assert!(asked >= 5, "{asked}");
    let mut fresh = model.session(64).expect("a session");
    assert_eq!(draw(&mut fresh, u32::MAX).expect("an answer").0, after);
}

/// Requests that arrive in time, and a long prompt among them.
#[test]
fn requests_arrive_in_time() {
    let args = [
        &SMALL[..5],
        &[
            "--arrivals",
            "inf",
            "--requests",
            "5",
            "-b",
            "3",
            "-p",
            "20",
            "-n",
            "8",
            "--long",
            "90",
            "-o",
            "json",
        ],
    ];
    let all = json(&args.concat());
    assert_eq!((all["requests"].as_u64(), all["slots"].as_u64()), (Some(5), Some(3)));
    for key in ["first_token_ms", "between_tokens_ms"] {
        let at = |part: &str| all[key][part].as_f64().expect("a figure");
        assert!(0.0 < at("p50") && at("p50") <= at("p99") && at("p99") <= at("most"), "{key}: {all}");
    }
    assert!(
        all["tokens_per_s"].as_f64() > Some(0.0) && all["long_prompt"]["first_token_ms"].is_f64(),
        "{all}"
    );
    let ran = weft(&["bench", "--arrivals", "0"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("above 0"), "{}", ran.stderr);
}
