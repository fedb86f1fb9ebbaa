//! Adapters at run time against the same adapters merged into the weights.

use std::ops::ControlFlow;

use weft_formats::adapter::Pair;
use weft_formats::gguf::{File, Writer};
use weft_formats::quant::{Type, dequantize};
use weft_models::{AdapterFile, DeviceOptions, Model, Options, Profile, Rows, Spec, Without};
use weft_runtime::DeviceKind;

use crate::golden_model::{build, load, nmse};

pub(crate) const PARTS: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// An adapter on `parts` of every layer, large enough to change what the model says.
pub(crate) fn adapter(file: &File, parts: &[&str], rank: usize, seed: u32) -> AdapterFile {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let layers = Spec::read(file).unwrap().layers();
    let mut pairs = Vec::new();
    for layer in 0..layers {
        for part in parts {
            let tensor = format!("blk.{layer}.{part}.weight");
            let shape = &file.tensor(&tensor).unwrap().shape;
            let (cols, rows) = (shape[0] as usize, shape[1] as usize);
            let a = (0..rank * cols).map(|_| next() * 0.2).collect();
            let b = (0..rows * rank).map(|_| next() * 0.2).collect();
            pairs.push(Pair { tensor, rank, rows, cols, a, b });
        }
    }
    AdapterFile { alpha: 4.0, rslora: false, pairs }
}

/// The model in F32 with the adapters added to its weights.
fn merged(file: &File, adapters: &[(&AdapterFile, f32)]) -> Vec<u8> {
    let table = file.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), Type::F32));
    let data: Vec<Vec<u8>> = file
        .tensors()
        .iter()
        .map(|t| {
            let mut values = vec![0.0; t.elements() as usize];
            dequantize(t.ty, file.bytes(t), &mut values).unwrap();
            for (a, strength) in adapters {
                for p in a.pairs.iter().filter(|p| p.tensor == t.name) {
                    p.add_to(strength * a.scale(p), 0, &mut values);
                }
            }
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        })
        .collect();
    Writer::new(file.metadata(), table).unwrap().to_bytes(&data).unwrap()
}

fn logits(model: &Model, tokens: &[u32], rows: Rows) -> Vec<f32> {
    let mut all = Vec::new();
    let mut session = model.session(128).unwrap();
    let each = &mut |_, row: &[f32]| {
        all.extend_from_slice(row);
        ControlFlow::Continue(())
    };
    session.logits(tokens, rows, each).unwrap();
    all
}

#[test]
fn an_adapter_gives_the_logits_of_the_merged_model() {
    let devices = vec![
        DeviceOptions::default(),
        DeviceOptions { without: Without::ALL, ..Default::default() },
        DeviceOptions { profile: Some(Profile::Minimal), ..Default::default() },
    ];
    let mut report = Vec::new();
    for (case, parts) in [
        ("qwen3-f32", &PARTS[..]),
        ("llama3-q4_k_m", &PARTS[..]),
        ("qwen2-q4_k_m", &["attn_v", "ffn_down"]),
        ("qwen3-mixed", &["attn_k", "ffn_up"]),
    ] {
        let (bytes, tokens) = (build(case), load(case).tokens);
        let file = File::from_bytes(bytes.clone()).unwrap();
        let (first, second) = (adapter(&file, parts, 5, 1), adapter(&file, &parts[..1], 17, 2));
        let both = [(&first, 1.0), (&second, -0.5)];
        let options = |device| Options { device, context: Some(128), chunk: Some(24), ..Options::default() };
        let want = Model::open(merged(&file, &both), &options(DeviceOptions::default())).unwrap();
        let want = logits(&want, &tokens, Rows::Prefill);
        // Without features for two of them; where every tensor is cut, for one.
        let count = match case {
            "llama3-q4_k_m" => 3,
            "qwen3-f32" => 2,
            _ => 1,
        };
        for device in devices.clone().into_iter().take(count) {
            let base = Model::open(bytes.clone(), &options(device)).unwrap();
            let fast = base.gpu().caps().kind != DeviceKind::Cpu;
            let with = base.with_adapters(&both).unwrap();
            let plain = logits(&base, &tokens, Rows::Prefill);
            for rows in [Rows::Prefill, Rows::Decode] {
                let got = logits(&with, &tokens, rows);
                // The cache is f16 where the file is quantised, f32 in the merged file.
                let (e, far) = (nmse(&got, &want), nmse(&plain, &want));
                report.push(format!("{case} {rows:?}: {e:.1e}, without {far:.1e}"));
                assert!(far > 1e-2, "{case}: the adapter changes nothing: NMSE {far:e}");
                // Where products round to f16, as far as they may.
                let bound = match fast && base.gpu().caps().f16 {
                    true => 5e-4,
                    false => {
                        if case == "qwen3-f32" {
                            1e-9
                        } else {
                            1e-5
                        }
                    }
                };
                assert!(e <= bound, "{case} {rows:?}: NMSE {e:e}");
            }
            // The model it came from is as it was, and none is none.
            let none = with.with_adapters(&[]).unwrap();
            assert_eq!(logits(&none, &tokens, Rows::Prefill), plain);
        }
    }
    println!("{}", report.join("\n"));
}

/// A step of one token in chained integers gives way where adapters are.
#[test]
fn integers_give_way_to_adapters() {
    let (bytes, tokens) = (build("qwen3-q4_k_m"), load("qwen3-q4_k_m").tokens);
    let file = File::from_bytes(bytes.clone()).unwrap();
    let a = adapter(&file, &PARTS, 8, 3);
    let options = Options { context: Some(128), integers: Some(true), ..Options::default() };
    let model = Model::open(bytes, &options).unwrap().with_adapters(&[(&a, 1.0)]).unwrap();
    let want = Model::open(merged(&file, &[(&a, 1.0)]), &options).unwrap();
    let e = nmse(&logits(&model, &tokens, Rows::Decode), &logits(&want, &tokens, Rows::Prefill));
    assert!(e <= 1e-3, "NMSE {e:e}");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let file = |case| File::from_bytes(build(case)).unwrap();
    let a = adapter(&file("qwen3-f32"), &["ffn_up"], 4, 1);
    let path = std::env::temp_dir().join(format!("weft-lora-{}.gguf", std::process::id()));
    let spec = |case| Spec::read(&file(case)).unwrap();
    a.write_gguf(&path, &weft_models::adapter_base(&spec("qwen3-f32")), "test").unwrap();
    let own = weft_models::open_adapter(&path, &spec("qwen3-f32")).map_err(|e| e.to_string());
    let other = weft_models::open_adapter(&path, &spec("llama3-f32")).unwrap_err().to_string();
    let mut smaller = spec("qwen3-f32");
    smaller.blocks.truncate(1);
    let smaller = weft_models::open_adapter(&path, &smaller).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(own.unwrap(), a);
    assert!(other.contains("\"qwen3\", the model is \"llama\""), "{other}");
    assert!(smaller.contains("\"blk.1.ffn_up.weight.lora_a\" has no matrix in this model"), "{smaller}");
}
