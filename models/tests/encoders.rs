//! Embeddings and scores of small random encoders, against transformers in float64
//! (`tests/reference/golden_encoders.py`; the expected values are in `tests/golden/encoders`).

use std::ops::ControlFlow;

use weft_models::{DeviceOptions, Embedder, Error, Model, Options, Pooling, Profile, Sequence, Without};

use crate::golden::bound;
use crate::golden_model::{build, exact, folder, nmse, specification};

/// A case: its sequences, and what transformers computed.
struct Case {
    sequences: Vec<Sequence>,
    /// Tokens, of all sequences one after the other, whose hidden states are stored.
    tokens: Vec<usize>,
    /// `[layers + 1, tokens, width]`.
    hidden: Vec<f32>,
    /// `[sequences, width]` of each pooling, not normalised.
    pooled: [(Pooling, Vec<f32>); 3],
    /// `[sequences]`, of rerankers.
    scores: Option<Vec<f32>>,
    width: usize,
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder().join("encoders"))
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".json").map(String::from))
        .map(|name| format!("encoders/{name}"))
        .collect();
    names.sort();
    assert!(names.len() >= 10);
    names
}

fn load(name: &str) -> Case {
    let json = specification(name);
    let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| bytemuck::pod_collect_to_vec::<u8, f32>(file.tensor(name).unwrap().data());
    let rows = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(json[key].clone()).unwrap_or_default() };
    let types = rows("types");
    let sequences = rows("sequences").into_iter().enumerate().map(|(i, ids)| match types.get(i) {
        Some(types) => Sequence { ids, first: types.iter().filter(|&&t| t == 0).count() },
        None => ids.into(),
    });
    Case {
        sequences: sequences.collect(),
        tokens: serde_json::from_value(json["tokens"].clone()).unwrap(),
        hidden: floats("hidden"),
        pooled: [
            (Pooling::Mean, floats("mean")),
            (Pooling::Cls, floats("first")),
            (Pooling::Last, floats("last")),
        ],
        scores: file.tensor("scores").ok().map(|_| floats("scores")),
        width: file.tensor("mean").unwrap().shape()[1],
    }
}

fn open(name: &str, device: DeviceOptions) -> Model {
    let options = Options { device, chunk: Some(256), context: Some(64), ..Options::default() };
    Model::open(build(name), &options).unwrap()
}

fn go_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Rows of `width` divided by their length.
fn normalised(rows: &[f32], width: usize) -> Vec<f32> {
    let one = |row: &[f32]| {
        let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|&v| (f64::from(v) / length) as f32).collect::<Vec<_>>()
    };
    rows.chunks_exact(width).flat_map(one).collect()
}

fn embed(embedder: &mut Embedder, sequences: &[Sequence]) -> Vec<f32> {
    embedder.embed(sequences, &mut go_on).unwrap().concat()
}

#[test]
fn hidden_states_and_vectors_equal_transformers() {
    let mut report = Vec::new();
    for name in names() {
        let (case, model) = (load(&name), open(&name, DeviceOptions::default()));
        for (pooling, want) in &case.pooled {
            let mut embedder = model.embedder(Some(*pooling), Some(64)).unwrap();
            let got = embedder.hidden(&case.sequences).unwrap();
            for (layer, (got, want)) in
                got.residual.iter().zip(case.hidden.chunks_exact(case.tokens.len() * case.width)).enumerate()
            {
                let at = |&t: &usize| got[t * case.width..(t + 1) * case.width].to_vec();
                let e = nmse(&case.tokens.iter().flat_map(at).collect::<Vec<_>>(), want);
                assert!(e <= bound(&name), "{name}: hidden states behind layer {layer}: NMSE {e:e}");
            }
            let e = nmse(&got.pooled, want);
            assert!(e <= bound(&name), "{name}: {pooling:?}: NMSE {e:e}");
            let vectors = embed(&mut embedder, &case.sequences);
            let e = nmse(&vectors, &normalised(want, case.width));
            assert!(e <= bound(&name), "{name}: {pooling:?}, normalised: NMSE {e:e}");
            report.push(format!("{name} {pooling:?} {e:.1e}"));
        }
    }
    println!("{}", report.join("\n"));
}

#[test]
fn scores_equal_transformers() {
    let mut seen = 0;
    for name in names() {
        let (case, model) = (load(&name), open(&name, DeviceOptions::default()));
        let Some(want) = &case.scores else {
            let error = model.reranker(None).unwrap_err().to_string();
            assert!(error.contains("has no classifier"), "{error}");
            continue;
        };
        let got = model.reranker(Some(64)).unwrap().score(&case.sequences, &mut go_on).unwrap();
        let e = nmse(&got, want);
        assert!(e <= bound(&name), "{name}: {got:?}, expected {want:?}: NMSE {e:e}");
        let error = model.embedder(None, None).unwrap_err().to_string();
        assert!(error.contains("is a reranker"), "{error}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn one_at_a_time_as_all_at_once_under_every_limit() {
    for name in ["encoders/bert-f32", "encoders/nomic-q4_k_m", "encoders/qwen3-embedding-f16"] {
        let case = load(name);
        let all = embed(&mut open(name, exact()).embedder(None, Some(64)).unwrap(), &case.sequences);
        let mut alone = open(name, exact()).embedder(None, Some(64)).unwrap();
        let one = |s: &Sequence| embed(&mut alone, std::slice::from_ref(s));
        let e = nmse(&case.sequences.iter().flat_map(one).collect::<Vec<_>>(), &all);
        assert!(e <= 1e-10, "{name}, one at a time: NMSE {e:e}");
        // Batches that hold some of the sequences, and less than the longest.
        let options = Options { device: exact(), chunk: Some(40), context: Some(64), ..Options::default() };
        let mut few = Model::open(build(name), &options).unwrap().embedder(None, Some(64)).unwrap();
        let e = nmse(&embed(&mut few, &case.sequences), &all);
        assert!(e <= 1e-10, "{name} in batches of 40 tokens: NMSE {e:e}");
        let limits = Profile::ALL.map(|p| DeviceOptions { profile: Some(p), ..exact() });
        let bare = DeviceOptions { without: Without::ALL, ..DeviceOptions::default() };
        for device in limits.into_iter().chain([bare]) {
            let shown = format!("{device:?}");
            let limited = embed(&mut open(name, device).embedder(None, Some(64)).unwrap(), &case.sequences);
            let e = nmse(&limited, &all);
            assert!(e <= 1e-8, "{name} on {shown}: NMSE {e:e}");
        }
    }
}

#[test]
fn what_cannot_be_is_said() {
    let bert = open("encoders/bert-f32", DeviceOptions::default());
    assert!(matches!(bert.session(16), Err(Error::Encoder { .. })));
    let wide = bert.embedder(None, Some(65)).unwrap_err().to_string();
    assert!(wide.contains("65 was asked for") && wide.contains("1 to 64"), "{wide}");
    let mut embedder = bert.embedder(None, Some(16)).unwrap();
    let mut fails = |ids: Vec<Vec<u32>>| {
        let sequences: Vec<Sequence> = ids.into_iter().map(Sequence::from).collect();
        embedder.embed(&sequences, &mut go_on).unwrap_err().to_string()
    };
    assert!(fails(vec![vec![5; 3], vec![5; 17]]).contains("text 2 has 17 tokens, more than the 16"));
    assert!(fails(vec![vec![5; 3], vec![]]).contains("text 2 is empty"));
    assert!(fails(vec![vec![9999]]).contains("out of range"));
    let stop = embedder.embed(&[vec![5].into()], &mut |_| ControlFlow::Break(()));
    assert!(matches!(stop, Err(Error::Cancelled)));
    let decoder = open("qwen3-f32", DeviceOptions::default());
    assert!(decoder.embedder(None, None).unwrap_err().to_string().contains("--pooling (mean, cls or last)"));
    // Named, a pooling makes vectors of any model.
    let mut named = decoder.embedder(Some(Pooling::Mean), Some(16)).unwrap();
    assert_eq!(embed(&mut named, &[vec![5, 6].into()]).len(), decoder.spec().width as usize);
}
