//! Speed of the model on board, on this machine's first device: `cargo bench`.

// criterion_group! makes a public function without documentation.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;
use weft_harness::mini;
use weft_models::{Model, Options, Sampling};

const TEXT: &str = "A car starts from rest and accelerates at 3 m/s² for 4 s. What is its final speed? ";

fn tokenizer(c: &mut Criterion) {
    let file = File::from_bytes(mini::GGUF.to_vec()).expect("weft-mini");
    let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("a vocabulary");
    let text = TEXT.repeat(50);
    c.bench_function("tokenizer/encode_4k", |b| b.iter(|| tokenizer.encode(black_box(&text), false)));
    c.bench_function("gguf/open", |b| b.iter(|| File::from_bytes(black_box(mini::GGUF).to_vec())));
}

fn model(c: &mut Criterion) {
    let model = match Model::open(mini::GGUF.to_vec(), &Options::default()) {
        Ok(model) => model,
        Err(e) => return println!("skipped: {e}"),
    };
    let prompt = model.tokenizer().expect("a vocabulary").encode(&TEXT.repeat(8), false);
    let mut session = model.session(1024).expect("a session");
    let mut group = c.benchmark_group(&model.gpu().caps().name);
    group.sample_size(10);
    // A first token that differs leaves nothing of the cache to reuse.
    let mut turn = 0;
    group.bench_function(format!("prefill_{}", prompt.len()), |b| {
        b.iter(|| {
            turn += 1;
            let mut ids = prompt.clone();
            ids[0] = turn % model.spec().vocabulary;
            let mut g = session.generate(&ids, &Sampling::greedy(), 1).expect("a prompt that fits");
            g.next_token().expect("a token")
        });
    });
    group.bench_function("decode_32", |b| {
        b.iter(|| {
            let mut g = session.generate(&prompt[..32], &Sampling::greedy(), 32).expect("a prompt that fits");
            while g.next_token().expect("a token").is_some() {}
            g.generated()
        });
    });
    group.finish();
}

criterion_group!(benches, tokenizer, model);
criterion_main!(benches);
