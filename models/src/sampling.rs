//! How tokens are drawn.

use weft_kernels::ops::sample::State;

use crate::{Error, Result};

/// How the next token is drawn. The default is llama.cpp's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens with this mass; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens with at least this part of the largest probability; 0 keeps all.
    pub min_p: f32,
    /// Make recent tokens less probable; 1 does nothing.
    pub repeat_penalty: f32,
    /// How many tokens are recent.
    pub repeat_last_n: u32,
    /// Seed of the draws: the same seed gives the same text on the same device.
    pub seed: u32,
    /// Go on after a token that ends the text.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
            ignore_eos: false,
        }
    }
}

impl Sampling {
    /// Always the most probable token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// What the sampler reads, for a batch that begins at `position`.
    pub(crate) fn state(&self, position: u32) -> State {
        State {
            position,
            seed: self.seed,
            top_k: self.top_k,
            last_n: self.repeat_last_n,
            temperature: self.temperature,
            top_p: self.top_p,
            min_p: self.min_p,
            penalty: self.repeat_penalty,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what, range, value: f32| Err(Error::Sampling { what, range, value: value.to_string() });
        if !(0.0..=1e6).contains(&self.temperature) {
            return bad("the temperature", "from 0 to 1e6", self.temperature);
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return bad("top-p", "from 0 to 1", self.top_p);
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min-p", "from 0 to 1", self.min_p);
        }
        if !(1e-6..=1e6).contains(&self.repeat_penalty) {
            return bad("the repetition penalty", "from 1e-6 to 1e6", self.repeat_penalty);
        }
        Ok(())
    }
}
