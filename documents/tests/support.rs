//! A model that needs no weights, and files that are made up.

use std::ops::ControlFlow;

use weft_documents::words::words;
use weft_documents::{About, Embed, Fault, Rerank};

/// A text's vector is the sum of a vector for each of its words, which follows from its letters alone.
pub(crate) struct Bag {
    pub(crate) about: About,
    /// Texts that it was given so far.
    pub(crate) asked: usize,
    /// After so many texts somebody asks it to stop.
    pub(crate) patience: usize,
}

impl Bag {
    pub(crate) fn new(name: &str, width: usize) -> Bag {
        let about = About { name: name.into(), width, mark: format!("mark-{name}") };
        Bag { about, asked: 0, patience: usize::MAX }
    }
}

impl Embed for Bag {
    fn about(&self) -> &About {
        &self.about
    }

    fn context(&self) -> usize {
        64
    }

    fn tokens(&self, text: &str) -> usize {
        text.split_whitespace().count() + 2
    }

    fn embed(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        self.asked += texts.len();
        if self.asked > self.patience {
            return Err(Fault::Cancelled);
        }
        assert!(texts.iter().all(|t| self.tokens(t) <= self.context()), "a text is too long");
        Ok(texts.iter().map(|t| bag(t, self.about.width)).collect())
    }
}

fn bag(text: &str, width: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; width];
    for word in words(text).iter().filter(|w| w.len() > 3) {
        let mut state = word.bytes().fold(7_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        for x in &mut sum {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *x += (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
    sum.iter().map(|x| x / length).collect()
}

/// Prefers texts that hold a word.
pub(crate) struct Prefers(pub(crate) &'static str);

impl Rerank for Prefers {
    fn score(&mut self, _: &str, texts: &[String]) -> Result<Vec<f32>, Fault> {
        Ok(texts.iter().map(|t| t.matches(self.0).count() as f32).collect())
    }
}

pub(crate) fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Gives the pages of a PDF within this process.
pub(crate) fn here(bytes: &[u8]) -> Result<Vec<String>, String> {
    weft_documents::pdf::pages(bytes, weft_documents::pdf::Limits::default())
}

/// A file in the folder of temporary ones, with a name of its own; it goes when this does.
pub(crate) struct File(pub(crate) std::path::PathBuf);

impl File {
    pub(crate) fn new(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("weft-documents-{}-{name}", std::process::id()));
        // One of an earlier run may be there.
        let _ = std::fs::remove_file(&path);
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}
