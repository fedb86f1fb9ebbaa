//! The commands on the model on board.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use weft_formats::gguf::Value;

use crate::cli_bad_input::changed;
use crate::support::cli::{command, fails, file, folder, json, misused, ok, weft, weft_with};

#[test]
fn the_model_on_board_answers() {
    let ran = weft(&["run", "What is 17 + 25?"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.ends_with("The answer is 42."), "{:?}", ran.stdout);
    for part in ["load", "prefill", "decode", "t/s", "GPU memory", "weights", "KV cache"] {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\x1b') && !ran.stderr.contains("XDG_RUNTIME_DIR"), "{}", ran.stderr);
}

#[test]
fn stdout_holds_the_text_and_json_the_rest() {
    let args = ["run", "What is 12 + 9?"];
    let text = ok(&args);
    let all = json(&["run", "--json", "What is 12 + 9?"]);
    assert_eq!(all["text"], text);
    assert_eq!(all["stop"], "end of text");
    assert_eq!(all["model"]["architecture"], "qwen3");
    let tokens = all["timings"]["decode_tokens"].as_u64().expect("a count");
    // The token that ends the text counts as drawn and is not part of it.
    assert_eq!(all["ids"].as_array().expect("ids").len() as u64, tokens - 1);
    assert!(all["memory"]["pools"]["weights"]["allocated"].as_u64() > Some(1 << 20));
    assert!(all["device"]["name"].is_string() && all["timings"]["load_s"].is_f64());
    // From stdin, where a last line feed is not part of the question.
    let ran = weft_with(&["run"], b"What is 12 + 9?\n");
    assert_eq!(ran.stdout, text);
    assert_eq!(weft_with(&["run", "-"], b"What is 12 + 9?").stdout, text);
}

/// Guesses leave an answer as it is, its end, its stop texts and its seed.
#[test]
fn drafts_change_no_answer() {
    let repeats = "Add 123456 and 654321.";
    for args in [
        &["-n", "120", repeats][..],
        &["-n", "60", "--temp", "0.7", "--seed", "5", repeats],
        &["--stop", "left", repeats],
        &["What is 12 + 9?"],
    ] {
        let plain = json(&[&["run", "--json"], args].concat());
        let drafted = json(&[&["run", "--json", "--draft", "ngram"], args].concat());
        assert!(plain["drafts"].is_null() && drafted["drafts"]["made"].is_u64());
        for key in ["text", "stop", "prompt_tokens"] {
            assert_eq!(plain[key], drafted[key], "{key} of {args:?}");
        }
    }
    // The same weights in another type guess nearly always right, where that pays.
    let mini = concat!(env!("CARGO_MANIFEST_DIR"), "/models/assets/weft-mini-f16.gguf");
    for more in [&[][..], &["--temp", "0.8", "--seed", "3"]] {
        let plain = json(&[&["run", "--json", "-n", "40", repeats], more].concat());
        let drafted = json(&[&["run", "--json", "--draft-model", mini, "-n", "40", repeats], more].concat());
        assert_eq!(plain["text"], drafted["text"]);
        assert!(drafted["drafts"]["made"].is_u64(), "{}", drafted["drafts"]);
    }
    fails(&["run", "--draft-model", "nowhere.gguf", "Hi"], &["nowhere.gguf"]);
    let ran = weft(&["run", "--draft", "ngram", "-n", "9", repeats]);
    assert!(ran.stderr.contains("tokens a step"), "{}", ran.stderr);
}

/// The first tokens are there together, so that no rate can be told of them.
#[test]
fn short_answers_have_no_rate() {
    for n in ["0", "2", "4", "7"] {
        let timings = json(&["run", "--json", "-n", n, "Hi"])["timings"].take();
        assert!(timings["decode_tokens_per_s"].is_null(), "-n {n}: {timings}");
        assert_eq!(timings["prefill_tokens_per_s"].is_null(), n == "0", "{timings}");
    }
    let timings = json(&["run", "--json", "-n", "12", "What is 17 + 25?"])["timings"].take();
    assert!(timings["decode_tokens_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{timings}");
}

/// Numbers below zero are values, and what does not take them says so.
#[test]
fn numbers_below_zero_are_values() {
    for (args, part) in [
        (["run", "-c", "-1", "Hi"], "invalid value '-1' for '--ctx <N>'"),
        (["run", "-n", "-2", "Hi"], "invalid value '-2' for '--max-tokens <N>'"),
        (["run", "--top-k", "-1", "Hi"], "invalid value '-1' for '--top-k <K>'"),
        (["run", "--seed", "-2", "Hi"], "a seed is a whole number from 0 to 4294967295"),
        (["run", "-m", "", "Hi"], "the name of a file is empty"),
    ] {
        let ran = weft(&args);
        assert!(ran.code == Some(2) && ran.stderr.contains(part), "{args:?}: {}", ran.stderr);
    }
    misused(&["run", "--min-p", "-0.1", "Hi"], &["min-p must be from 0 to 1, not -0.1"]);
    misused(&["tokenize", "--decode", "-1"], &["\"-1\" is not a token id"]);
    // llama.cpp's way to ask for any seed.
    ok(&["run", "--seed", "-1", "-n", "1", "Hi"]);
}

/// What clap refuses is one line as well, with the way to the help of the command that was typed.
#[test]
fn a_command_line_that_makes_no_sense_is_one_line() {
    for (args, parts) in [
        (&["run", "--fro"][..], &["unexpected argument '--fro' found; ", "; see weft run --help"][..]),
        (&["quantize"], &["were not provided: <IN.gguf> <OUT.gguf> <TYPE>; see weft quantize --help"]),
        (&["run", "--ctx", "12x", "Hi"], &["invalid value '12x' for '--ctx <N>'", "; see weft run --help"]),
        (&["kernels", "perf", "--seed"], &["'--seed'", "; see weft kernels perf --help"]),
        (&["tok"], &["unrecognized subcommand 'tok'", "; see weft --help"]),
    ] {
        misused(args, parts);
    }
    let help = weft(&["run", "--help"]);
    assert!(help.code == Some(0) && help.stdout.contains("Usage: weft run"), "{}", help.stdout);
}

/// A prompt's keys and values are kept in a file, which another prompt with the same beginning takes them from; what the
/// file is not for is refused, and it stays as it is.
#[test]
fn a_prompt_is_kept_in_a_file() {
    let dir = folder("prompt-cache");
    let kept = dir.join("kept.kv").display().to_string();
    let text =
        "Anna has 12 apples and Bob has 9 apples. They put all of their apples on one table. ".repeat(3);
    let run = |question: &str, more: &[&str]| {
        let prompt = format!("{text}{question}");
        json(&[&["run", "--raw", "-n", "12", "--json"], more, &[&prompt]].concat())
    };
    let first = run("How many are there?", &["--prompt-cache", &kept]);
    assert_eq!(first["cached_tokens"], 0);
    let bytes = std::fs::read(&kept).expect("it was written");
    let (again, plain) = (run("Who has more?", &["--prompt-cache", &kept]), run("Who has more?", &[]));
    assert!(again["cached_tokens"].as_u64() >= Some(64), "{again}");
    assert_eq!((&again["ids"], &again["prompt_tokens"]), (&plain["ids"], &plain["prompt_tokens"]));
    assert_eq!(std::fs::read(&kept).expect("it is there"), bytes);
    let ran = weft(&["run", "--raw", "-n", "2", "--prompt-cache", &kept, &text]);
    assert!(ran.stderr.contains("tokens of the prompt were there"), "{}", ran.stderr);
    fails(&["run", "--cache-type", "q8_0", "--prompt-cache", &kept, "Hello"], &["kept.kv", "--cache-type"]);
    let short = file(&dir, "short.kv", &bytes[..bytes.len() - 1]);
    fails(&["run", "--prompt-cache", &short, "Hello"], &["short.kv", "its header asks for"]);
    let ran = weft(&[
        "run",
        "--prompt-cache",
        &dir.join("none.kv").display().to_string(),
        "--raw",
        "-n",
        "1",
        "Hi",
    ]);
    assert!(ran.stderr.contains("shorter than a block"), "{}", ran.stderr);
    assert!(!dir.join("none.kv").exists());
    // A folder that is not there is told before anything is drawn.
    let nowhere = dir.join("no/kept.kv").display().to_string();
    let ran = weft(&["run", "--prompt-cache", &nowhere, "Hello"]);
    assert!(ran.code == Some(1) && ran.stdout.is_empty(), "{}", ran.stdout);
    assert!(ran.stderr.contains("there is no folder") && !ran.stderr.contains("t/s"), "{}", ran.stderr);
}

#[test]
fn same_seed_same_text() {
    let run = |seed: &str| {
        json(&["run", "--raw", "-n", "24", "--temp", "2", "--top-k", "0", "--seed", seed, "--json", "A car"])
    };
    let (a, b, c) = (run("7"), run("7"), run("8"));
    assert_eq!(a["ids"], b["ids"]);
    assert_eq!(a["text"], b["text"]);
    assert_ne!(a["ids"], c["ids"]);
    assert_eq!(a["seed"], 7);
}

#[test]
fn limits_features_and_chunks_change_nothing_that_is_seen() {
    let text = ok(&["run", "What is 31 + 14?"]);
    assert_eq!(ok(&["run", "--limits", "webgpu", "--chunk", "7", "What is 31 + 14?"]), text);
    let ran = weft(&["run", "--without", "f16,subgroups,dot,coop", "--explain", "What is 31 + 14?"]);
    assert_eq!(ran.stdout, text);
    for part in ["device:", "f16 no, subgroups no", "limits", "matvec", "attention"] {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
}

#[test]
fn a_bounded_answer_and_a_full_context() {
    let all = json(&["run", "-n", "3", "--json", "What is 17 + 25?"]);
    assert_eq!(all["stop"], "max tokens");
    assert_eq!(all["ids"].as_array().expect("ids").len(), 3);
    let all = json(&["run", "-c", "32", "--json", "What is 17 + 25?"]);
    assert_eq!(all["stop"], "context full");
    assert_eq!(all["context"], 32);
}

#[test]
fn tokenize_and_back() {
    let text = "What is 17 + 25?\n  Größe: 3 m² 🙂";
    let ids = ok(&["tokenize", "--json", text]);
    let array: Vec<u32> = serde_json::from_str(&ids).expect("an array");
    let spaced: Vec<u32> =
        ok(&["tokenize", text]).split_whitespace().map(|id| id.parse().expect("an id")).collect();
    assert_eq!(array, spaced);
    assert_eq!(weft_with(&["tokenize", "--json", "-"], text.as_bytes()).stdout, ids);
    assert_eq!(weft_with(&["tokenize", "--json"], text.as_bytes()).stdout, ids);
    assert_eq!(ok(&["tokenize", "--decode", &ids]), text);
    let words: Vec<String> = array.iter().map(u32::to_string).collect();
    let args: Vec<&str> =
        ["tokenize", "--decode"].into_iter().chain(words.iter().map(String::as_str)).collect();
    assert_eq!(ok(&args), text);
    assert_eq!(weft_with(&["tokenize", "--decode", "-"], ids.as_bytes()).stdout, text);

    // Control tokens are text unless they are asked for.
    let plain: Vec<u32> = serde_json::from_str(&ok(&["tokenize", "--json", "<|im_end|>"])).expect("an array");
    let special: Vec<u32> =
        serde_json::from_str(&ok(&["tokenize", "--json", "--special", "<|im_end|>"])).expect("an array");
    assert!(plain.len() > 1 && special == [2], "{plain:?} {special:?}");
    assert_eq!(ok(&["tokenize", "--decode", "2"]), "");
    assert_eq!(ok(&["tokenize", "--decode", "--special", "2"]), "<|im_end|>");

    let texts = serde_json::json!([text, "", "<|im_end|>"]).to_string();
    let lines = ok(&["tokenize", "--batch", "--json", "--special", &texts]);
    assert_eq!(lines.lines().collect::<Vec<_>>(), [ids.trim_end(), "[]", "[2]"]);
    fails(&["tokenize", "--batch", text], &["--batch takes a JSON array of texts"]);
}

#[test]
fn a_conversation_is_rendered_by_the_template() {
    let messages = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]"#;
    let want =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(ok(&["tokenize", "--render", messages]), want);
    assert_eq!(json(&["tokenize", "--render", "--json", messages]), want);
    fails(&["tokenize", "--render", "Hi"], &["not a list of messages", r#"[{"role": "user""#]);
}

#[test]
fn texts_become_vectors() {
    let numbers =
        |line: &str| -> Vec<f32> { line.split(' ').map(|n| n.parse().expect("a number")).collect() };
    let out = ok(&["embed", "--pooling", "last", "one", "two"]);
    let both: Vec<_> = out.lines().map(numbers).collect();
    assert_eq!(both.len(), 2);
    assert!(
        both.iter().all(|v| (v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4) && both[0] != both[1]
    );
    // Packed or alone, a text has one vector, here within what products of other sizes round.
    let alone = numbers(ok(&["embed", "--pooling", "last", "two"]).trim_end());
    // A context of 0 is the model's own here too.
    assert_eq!(numbers(ok(&["embed", "--pooling", "last", "-c", "0", "two"]).trim_end()), alone);
    assert!(alone.iter().zip(&both[1]).all(|(a, b)| (a - b).abs() < 1e-2), "{alone:?}");
    let lines = weft_with(&["embed", "--pooling", "mean", "--json", "-"], b"one\ntwo\n").stdout;
    let second: serde_json::Value = serde_json::from_str(lines.lines().nth(1).expect("two")).expect("JSON");
    assert_eq!(
        (&second["index"], second["embedding"].as_array().expect("numbers").len()),
        (&1.into(), both[0].len())
    );
    fails(&["embed", "hi"], &["says no pooling", "--pooling (mean, cls or last)"]);
    fails(
        &["embed", "--pooling", "last", "-c", "2", "one two three four five"],
        &["text 1 has", "the 2 that"],
    );
    fails(&["embed", "-"], &["no text"]);
    let ran = weft_with(&["rerank", "--query", "x", "-"], b"one\ntwo\n");
    assert!(ran.code == Some(1) && ran.stderr.contains("has no classifier"), "{}", ran.stderr);
    assert!(weft(&["embed", "--pooling", "max", "hi"]).stderr.contains("known: cls, mean, last"));
}

#[test]
fn logits_by_prefill_by_decode_and_by_chunks() {
    let folder = folder("cli-logits");
    let ids = ok(&["tokenize", "--json", "A car starts from rest and accelerates at 3 m/s² for 4 s."]);
    let tokens = file(&folder, "ids.json", ids.as_bytes());
    let count = serde_json::from_str::<Vec<u32>>(&ids).expect("ids").len();
    let logits = |name: &str, more: &[&str]| {
        let out = folder.join(name);
        let out = out.to_str().expect("UTF-8");
        let mut args = vec!["logits", "--tokens", &tokens, "-o", out];
        args.extend(more);
        assert_eq!(ok(&args), "");
        let bytes = std::fs::read(out).expect("the file");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.names(), ["logits"]);
        let tensor = file.tensor("logits").expect("logits");
        assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &[count, 2048][..]));
        tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")))
            .collect::<Vec<f32>>()
    };
    let prefill = logits("prefill.safetensors", &[]);
    assert!(prefill.iter().all(|v| v.is_finite()) && prefill.iter().any(|v| *v != 0.0));
    for (name, more) in [
        ("decode.safetensors", &["--decode"][..]),
        ("chunks.safetensors", &["--chunk", "7"]),
        ("one.safetensors", &["--chunk", "1"]),
    ] {
        let nmse = crate::support::golden_model::nmse(&logits(name, more), &prefill);
        assert!(nmse < 1e-5, "{name}: {nmse:e}");
    }
    let left: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder")
        .map(|e| e.expect("an entry").file_name())
        .filter(|n| n.to_string_lossy().contains(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn inspect_shows_everything() {
    let text = ok(&["inspect", "--limits", "adreno"]);
    for part in [
        "general.architecture = \"qwen3\"",
        "2048 in all",
        "token_embd.weight",
        "Q6_K",
        "KV cache",
        "context of 1024",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let all = json(&["inspect", "--json", "-c", "256"]);
    assert_eq!(all["metadata"]["qwen3.block_count"], 9);
    assert_eq!(all["plan"]["context"], 256);
    assert!(all["plan"]["total"].as_u64() > all["plan"]["weights"].as_u64());
    assert!(all["tensors"].as_array().expect("tensors").len() > 100 && all["cannot_run"].is_null());
}

#[test]
fn devices_are_listed() {
    let all = json(&["devices", "--json"]);
    let first = &all[0];
    assert!(first["name"].is_string() && first["limits"]["max_buffer_size"].as_u64() > Some(0), "{first}");
    assert!(first["profiles"].as_array().expect("profiles").contains(&"webgpu".into()), "{first}");
    let text = ok(&["devices"]);
    assert!(text.contains(first["name"].as_str().expect("a name")) && text.contains("profiles"), "{text}");
}

#[test]
fn kernels_are_counted() {
    let text = ok(&["kernels", "test", "--op", "rms*", "--without", "subgroups,dot"]);
    let last = text.lines().last().expect("lines");
    assert!(last.ends_with(" passed, 0 failed, 0 unsupported") && !last.starts_with("0 "), "{last}");
    let all = json(&["kernels", "test", "--op", "glu", "--json"]);
    assert_eq!(all["failed"], 0);
    assert_eq!(
        all["passed"].as_u64().expect("a count") as usize,
        all["cases"].as_array().expect("cases").len()
    );
}

#[test]
fn variants_are_picked_by_a_table_and_by_hand() {
    let text = ok(&["kernels", "list", "--explain"]);
    assert!(text.contains("matvec_dot") && text.contains("up to 8 tokens"), "{text}");
    let all =
        json(&["kernels", "list", "--explain", "--json", "--op", "attention", "--without", "subgroups"]);
    let decode = &all["rules"][0];
    assert_eq!((&decode["variant"], &decode["here"]), (&"decode".into(), &"no subgroups".into()), "{all}");
    let ran = weft(&["run", "--explain", "--variant", "tiled_dot,rows", "-n", "3", "What is 31 + 14?"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (kernels, has) = (&ran.stderr, |part: &str| ran.stderr.contains(part));
    assert!(has("matmul_tiled_dot_") && has("attention_piece_q"), "{kernels}");
    assert!(!has("attention_decode") && has("asked for wherever they can run: tiled_dot, rows"), "{kernels}");
}

#[test]
fn gradients_are_counted() {
    let text = ok(&["kernels", "grad", "--op", "qk_norm_rope_*", "--limits", "minimal", "--seed", "3"]);
    let last = text.lines().last().expect("lines");
    assert!(last.ends_with(" passed, 0 failed, 0 unsupported") && !last.starts_with("0 "), "{last}");
    let all = json(&["kernels", "grad", "--op", "*_dx", "--type", "q4_k", "--variant", "tiled", "--json"]);
    assert_eq!((&all["failed"], &all["unsupported"]), (&0.into(), &0.into()));
    assert!(all["cases"].as_array().expect("cases").iter().all(|c| c["nmse"].as_f64() < Some(1e-6)), "{all}");
}

#[test]
fn the_curriculum_is_the_same_for_a_seed() {
    let args = ["curriculum", "--seed", "5", "--count", "20", "--split", "test", "--format", "mcq"];
    let text = ok(&args);
    assert_eq!(text.lines().count(), 20);
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(record["messages"][0]["content"].as_str().expect("a question").contains("\nA. "), "{line}");
    }
    let path = folder("cli-curriculum").join("out.jsonl");
    let path = path.to_str().expect("UTF-8");
    assert_eq!(ok(&[&args[..], &["-o", path]].concat()), "");
    assert_eq!(std::fs::read_to_string(path).expect("the file"), text);
    assert_ne!(
        ok(&["curriculum", "--seed", "6", "--count", "20"]),
        ok(&["curriculum", "--seed", "5", "--count", "20"])
    );
}

#[test]
fn eval_counts_by_domain() {
    let all = json(&["eval", "--suite", "curriculum", "--limit", "4", "--json"]);
    for kind in ["generation", "multiple_choice"] {
        assert_eq!(all[kind]["total"], 4);
        assert_eq!(all[kind]["domains"].as_object().expect("domains").len(), 4);
        let (low, high) = (all[kind]["low"].as_f64(), all[kind]["high"].as_f64());
        assert!(low <= all[kind]["share"].as_f64() && all[kind]["share"].as_f64() <= high);
        assert!(all[kind]["right"].as_u64() >= Some(3), "{}", all[kind]);
    }
}

/// One slot gives the answers of several.
#[test]
fn eval_asks_many_at_a_time() {
    let ask = |slots| {
        json(&["eval", "--domain", "mathematics", "--limit", "2", "-n", "24", "--slots", slots, "--json"])
    };
    let (one, two) = (ask("1"), ask("2"));
    assert_eq!(one["generation"], two["generation"]);
    assert_eq!(one["multiple_choice"], two["multiple_choice"]);
    assert_eq!(two["generation"]["total"], 2);
}

#[test]
fn divergence_from_another_model() {
    let folder = folder("cli-divergence");
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let f16 = concat!(env!("CARGO_MANIFEST_DIR"), "/models/assets/weft-mini-f16.gguf");
    let small = path("q4_0.gguf");
    ok(&["quantize", f16, &small, "Q4_0"]);
    let text = file(&folder, "text.txt", "A car travels 120 km in 2 hours. What is its speed?".as_bytes());
    let args = ["eval", "-m", &small, "--suite", "divergence", "--against"];
    let got = json(&[&args[..], &[f16, "-f", &text, "--json"]].concat());

    // The same from the logits of each.
    let ids = ok(&["tokenize", "-m", f16, "--json", "A car travels 120 km in 2 hours. What is its speed?"]);
    let ids_file = file(&folder, "ids.json", ids.as_bytes());
    let ids: Vec<usize> = serde_json::from_str(&ids).expect("ids");
    let logits = |model: &str| {
        let out = path("logits.safetensors");
        ok(&["logits", "-m", model, "--tokens", &ids_file, "-o", &out]);
        let bytes = std::fs::read(&out).expect("logits");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let data = file.tensor("logits").expect("logits").data().to_vec();
        let values: Vec<f64> =
            data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect();
        let rows = values.len() / ids.len();
        values.chunks_exact(rows).map(<[f64]>::to_vec).collect::<Vec<_>>()
    };
    let (q, p) = (logits(&small), logits(f16));
    let softmax = |row: &[f64]| {
        let sum: f64 = row.iter().map(|v| v.exp()).sum();
        row.iter().map(|v| v.exp() / sum).collect::<Vec<_>>()
    };
    let top = |row: &[f64]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let (mut kl, mut same, mut error, mut energy, mut surprise) = (0.0, 0, 0.0, 0.0, 0.0);
    for (i, (q, p)) in q.iter().zip(&p).enumerate() {
        let (sq, sp) = (softmax(q), softmax(p));
        kl += sp.iter().zip(&sq).map(|(p, q)| p * (p / q).ln()).sum::<f64>() / ids.len() as f64;
        same += usize::from(top(q) == top(p));
        error += q.iter().zip(p).map(|(q, p)| (q - p).powi(2)).sum::<f64>();
        energy += p.iter().map(|p| p * p).sum::<f64>();
        surprise -= ids.get(i + 1).map_or(0.0, |&id| sq[id].ln());
    }
    let near = |name: &str, got: &serde_json::Value, want: f64| {
        let got = got.as_f64().expect("a number");
        assert!((got - want).abs() <= 1e-6 * want.abs(), "{name}: {got}, not {want}");
    };
    near("KL", &got["kl"]["mean"], kl);
    near("same top", &got["same_top"]["right"], same as f64);
    near("NMSE", &got["nmse"], error / energy);
    near("perplexity", &got["perplexity"], (surprise / (ids.len() - 1) as f64).exp());
    assert_eq!(got["positions"], ids.len());
    assert!(kl > 0.0 && error > 0.0, "{got}");

    // A model is where it is, in words as well.
    let shown = ok(&["eval", "-m", f16, "--suite", "divergence", "--against", f16, "--positions", "40"]);
    assert!(shown.contains("40 positions") && shown.contains("100.00 %"), "{shown}");
    misused(&args[..5], &["--against FILE"]);
    misused(&["eval", "--against", f16], &["--suite divergence"]);
    let golden = file(&folder, "other.gguf", &crate::support::golden_model::build("qwen3-f32"));
    fails(&[&args[..], &[golden.as_str()]].concat(), &["vocabulary of", "613", &golden]);
    let empty = file(&folder, "empty.txt", b"");
    fails(&[&args[..], &[f16, "-f", &empty]].concat(), &[&empty, "no tokens"]);
}

#[test]
fn a_conversation_from_a_pipe() {
    let path = folder("cli-chat").join("talk.json");
    let path = path.to_str().expect("UTF-8");
    let script = format!(
        "/system You are a careful tutor. Show your steps.\nWhat is 17 + 25?\n\nWhat is 40 + 2?\n/save {path}\n/clear\nWhat is 8 + 5?\n/help\n/exit\nnot read"
    );
    let ran = weft_with(&["chat"], script.as_bytes());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let answers = ran.stdout.matches("The answer is").count();
    assert_eq!(answers, 3, "{}", ran.stdout);
    assert!(ran.stdout.contains("The answer is 42.\n") && ran.stderr.contains("/clear"), "{}", ran.stdout);
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the file")).expect("JSON");
    let roles: Vec<_> =
        saved["messages"].as_array().expect("messages").iter().map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"].map(Some));

    // What is taken back is as if it had not been said, with guesses and without.
    let seen = |args: &[&str], script: &str| {
        let ran = weft_with(&[&["chat", "-n", "60"], args].concat(), script.as_bytes());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    let (first, second) = ("What is 17 + 25?\n", "What is 40 + 2?\n");
    let straight = seen(&[], &format!("{first}{second}"));
    let alone = seen(&[], first);
    let answer = straight.strip_prefix(&alone).expect("the first answer");
    let undone = seen(&["--draft", "ngram"], &format!("{first}What is 8 + 5?\n/undo\n{second}"));
    assert!(undone.starts_with(&alone) && undone.ends_with(answer), "{straight:?}\n{undone:?}");
    let ran = weft_with(&["chat"], b"/undo\n");
    assert!(ran.code == Some(1) && ran.stderr.contains("nothing to take back"), "{}", ran.stderr);

    let ran = weft_with(&["chat"], b"/nothing\n");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("there is no command /nothing"), "{}", ran.stderr);
}

#[test]
fn help_has_examples() {
    let commands =
        ["run", "chat", "tokenize", "inspect", "devices", "logits", "eval", "curriculum", "kernels"];
    let help = ok(&["--help"]);
    for name in commands {
        assert!(help.contains(&format!("  {name} ")), "{help}");
        let help = ok(&[name, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("weft {name}")), "{help}");
    }
}

#[test]
fn wrong_usage_has_code_2() {
    for args in [
        &["run", "--limits", "huge", "x"][..],
        &["run", "--without", "f64", "x"],
        &["run", "--temp", "warm", "x"],
        &["run", "one", "two"],
        &["logits"],
        &["fly"],
        &[],
    ] {
        let ran = weft(args);
        assert_eq!(ran.code, Some(2), "weft {args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty() && !ran.stderr.contains('\x1b'), "{}", ran.stderr);
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = command(&["curriculum", "--count", "200000"]).spawn().expect("weft starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.starts_with('{'));
    let out = child.wait_with_output().expect("weft ends");
    assert_eq!((out.status.code(), out.stderr), (Some(0), Vec::new()));
}

/// Ctrl-C ends the answer, not what was said so far.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly() {
    let args =
        ["run", "--raw", "--temp", "2", "--top-k", "0", "--top-p", "1", "--min-p", "0", "-c", "16384", "A"];
    let mut child = command(&args).stderr(Stdio::piped()).spawn().expect("weft starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut first = [0];
    stdout.read_exact(&mut first).expect("a byte of text");
    let id = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill starts");
    assert!(killed.success());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("the rest");
    let out = child.wait_with_output().expect("weft ends");
    let stderr = String::from_utf8_lossy(&out.stderr);
    // A model that ended by itself just then is no fault of Ctrl-C.
    assert!(
        out.status.code() == Some(130) && stderr.contains("stopped by interrupted"),
        "{:?} {stderr}",
        out.status
    );
}

/// What was typed makes no sense by itself: code 2. It makes sense, and something fails: code 1.
#[test]
fn the_exit_code_says_whose_mistake_it_is() {
    for args in [
        &["run", "--temp", "-1", "Hi"][..],
        &["run", "--stop", "", "Hi"],
        &["serve", "--temp", "nan", "--port", "0"],
        &["batch", "--top-p", "3", "absent.jsonl", "-o", "out.jsonl"],
        &["bench", "--synthetic", "x"],
        &["convert", "absent", "out.gguf", "--type", "Q9"],
        &["quantize", "absent.gguf", "out.gguf", "Q9"],
        &["merge", "--lora", "absent", "-o", "out.gguf", "--type", "Q9"],
        &["split", "absent.gguf", "out", "--max-size", "many"],
        &["curriculum", "--domain", "astrology"],
        &["eval", "--domain", "astrology"],
        &["eval", "--suite", "medqa"],
        &["kernels", "test", "--op", "fft"],
        &["tokenize", "two", "texts"],
        &["tokenize", "--decode", "seven"],
        &["pair", "no-code"],
        &["pull", "a b"],
    ] {
        misused(args, &[]);
    }
    for args in [
        &["run", "-m", "absent.gguf", "Hi"][..],
        &["run", "--lora", "absent.gguf", "Hi"],
        &["run", "--device", "Voodoo", "Hi"],
        &["quantize", "absent.gguf", "out.gguf", "Q4_0"],
        &["merge", "--lora", "absent.gguf", "-o", "out.gguf"],
        &["eval", "--suite", "medqa", "--data", "absent.jsonl"],
        &["bench", "--url", "http://127.0.0.1:1"],
        &["batch", "absent.jsonl", "-o", "out.jsonl"],
        &["tokenize", "--decode", "99999999"],
    ] {
        fails(args, &[]);
    }
    for command in [&["finetune", "-d", "absent", "-o", "out"][..], &["curriculum"], &["eval"]] {
        let ran = weft(&[command, &["--seed", "-1"]].concat());
        assert!(ran.code == Some(2) && ran.stderr.contains("a seed is a whole number"), "{}", ran.stderr);
    }
}

/// A file's own sampling is the default of what answers, and neither that of `eval` nor above what is typed.
#[test]
fn a_file_says_how_it_is_drawn_from() {
    let folder = folder("cli-sampling");
    let say = |key: &str, value: Value| (format!("general.sampling.{key}"), value);
    let bytes = changed(|pairs, _| {
        pairs.push(say("temp", Value::F32(0.0)));
        pairs.push(say("top_k", Value::I32(7)));
        pairs.push(say("mirostat", Value::I32(2)));
    });
    let path = file(&folder, "drawn.gguf", &bytes);
    let run = |more: &[&str]| {
        let ran = weft(&[&["run", "-m", &path, "-n", "2", "--json", "Hi"], more].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        (json["temperature"].as_f64().expect("a number"), ran.stderr)
    };
    let (temperature, said) = run(&[]);
    assert_eq!(temperature, 0.0);
    assert!(said.contains("says how it is drawn from: temp 0, top-k 7\n"), "{said}");
    assert!(said.contains("general.sampling.mirostat is not honoured"), "{said}");
    let (temperature, said) = run(&["--temp", "0.5", "--top-k", "3"]);
    assert!(temperature == 0.5 && !said.contains("says how"), "{said}");
    let shown = ok(&["inspect", &path]);
    assert!(
        shown.contains("\nSampling, where neither a flag nor a request says another\n  temp 0, top-k 7\n"),
        "{shown}"
    );
}
