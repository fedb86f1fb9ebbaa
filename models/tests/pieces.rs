//! What a browser uses, natively: a file that is read piece by piece, and the functions that do not block.

use std::ops::ControlFlow;
use std::sync::Arc;

use weft_formats::gguf::Pieces;
use weft_models::{Error, Model, Options, Rows, Sampling, Source};

use crate::golden_model::{build, load};

#[derive(Debug)]
struct Slices(Vec<u8>, u64);

impl Pieces for Slices {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        if at + into.len() as u64 > self.1 {
            return Err(std::io::Error::other("the disk was taken out"));
        }
        into.copy_from_slice(&self.0[at as usize..][..into.len()]);
        Ok(())
    }
}

fn pieces(case: &str) -> Source {
    let bytes = build(case);
    let readable = bytes.len() as u64;
    Source::Pieces(case.to_owned(), Arc::new(Slices(bytes, readable)))
}

/// Logits of all positions and a greedy answer, by what blocks or by what does not.
fn said(model: &Model, tokens: &[u32], blocking: bool) -> (Vec<f32>, Vec<u32>, usize) {
    let mut session = model.session(128).unwrap();
    let (mut logits, mut ids, mut batches) = (Vec::new(), Vec::new(), 0);
    let mut each = |_: u32, row: &[f32]| {
        logits.extend_from_slice(row);
        ControlFlow::Continue(())
    };
    let sampling = Sampling { ignore_eos: true, ..Sampling::greedy() };
    let mut told = |_, _| {
        batches += 1;
        ControlFlow::Continue(())
    };
    if blocking {
        let mut answer = session.generate_with(tokens, &sampling, 6, &mut told).unwrap();
        while let Some(id) = answer.next_token().unwrap() {
            ids.push(id);
        }
        session.logits(tokens, Rows::Prefill, &mut each).unwrap();
    } else {
        pollster::block_on(async {
            let mut answer = session.generate_with_async(tokens, &sampling, 6, &mut told).await.unwrap();
            while let Some(id) = answer.next_async().await.unwrap() {
                ids.push(id);
            }
            session.logits_async(tokens, Rows::Prefill, &mut each).await.unwrap();
        });
    }
    (logits, ids, batches)
}

#[test]
fn pieces_and_what_does_not_block_give_the_same_bits() {
    for case in ["qwen3-q4_k_m", "llama3-f32"] {
        let tokens = load(case).tokens;
        let options = Options { chunk: Some(7), context: Some(128), ..Options::default() };
        let whole = Model::open(build(case), &options).unwrap();
        let expected = said(&whole, &tokens, true);
        assert_eq!(expected.1.len(), 6);
        assert!(expected.2 > 1, "the prompt has several batches");
        assert!(said(&whole, &tokens, false) == expected, "{case}: what does not block");
        let mut progress = Vec::new();
        let loading = pollster::block_on(Model::begin_async(pieces(case), &options)).unwrap();
        let told = &mut |p: weft_models::Progress| {
            progress.push(p.done);
            ControlFlow::Continue(())
        };
        let model = pollster::block_on(loading.finish_async(told)).unwrap();
        assert!(progress.is_sorted() && progress.last() == Some(&model.opening().bytes), "{progress:?}");
        assert!(said(&model, &tokens, false) == expected, "{case}: in pieces");
        let model = Model::open(pieces(case), &options).unwrap();
        assert!(said(&model, &tokens, true) == expected, "{case}: in pieces, blocking");
    }
}

#[test]
fn a_disk_that_goes_and_a_cancelled_load_are_errors() {
    let bytes = build("qwen3-q4_k_m");
    let most = bytes.len() as u64 - 10_000;
    let source = Source::Pieces("disk.gguf".into(), Arc::new(Slices(bytes, most)));
    // The first piece is the whole of so small a file.
    let error = Model::open(source, &Options::default()).unwrap_err().to_string();
    assert_eq!(error, "disk.gguf: the disk was taken out");
    let loading = Model::begin(pieces("qwen3-q4_k_m"), &Options::default()).unwrap();
    let cancelled = pollster::block_on(loading.finish_async(&mut |_| ControlFlow::Break(())));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}
