//! Reading: the fixtures, split files, and what is wrong with wrong ones.

use std::path::{Path, PathBuf};

use weft_formats::gguf::File;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}

#[test]
fn shared_vocabularies_open() {
    let Some(folder) = shared("fixtures/vocab") else { return };
    for (name, model, tokens) in [
        ("ggml-vocab-qwen2.gguf", "gpt2", 151_936),
        ("ggml-vocab-llama-bpe.gguf", "gpt2", 128_256),
        ("ggml-vocab-llama-spm.gguf", "llama", 32_000),
        ("ggml-vocab-bert-bge.gguf", "bert", 30_522),
    ] {
        let file = File::open(&folder.join(name)).unwrap();
        assert!(file.tensors().is_empty());
        assert_eq!(file.metadata().str("tokenizer.ggml.model"), Some(model));
        assert_eq!(file.metadata().strs("tokenizer.ggml.tokens").unwrap().len(), tokens);
    }
}
