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
    /// Keep the tokens whose information is nearest to the entropy, up to this mass; 1 keeps all (Meister et al. 2022,
    /// arXiv:2202.00666). As the ones below, for requests of an [`Engine`](crate::engine::Engine) alone.
    pub typical_p: f32,
    /// Taken from the logits of tokens among the recent ones.
    pub presence_penalty: f32,
    /// The same, times how often they came.
    pub frequency_penalty: f32,
    /// Against repetitions of sequences.
    pub dry: Dry,
}

/// DRY, "don't repeat yourself": a token that would make a sequence of `n >= allowed` tokens come again loses
/// `multiplier * base ^ (n - allowed)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dry {
    /// 0 turns it off.
    pub multiplier: f32,
    /// Grows with the length of what repeats.
    pub base: f32,
    /// Repetitions of fewer tokens are allowed.
    pub allowed: u32,
    /// How many tokens are looked back on; 0 for all.
    pub last_n: u32,
}

impl Default for Dry {
    fn default() -> Dry {
        Dry { multiplier: 0.0, base: 1.75, allowed: 2, last_n: 0 }
    }
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
            typical_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry: Dry::default(),
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

    /// Whether the sampler on the device knows all of it.
    pub(crate) fn is_on_device(&self) -> bool {
        let penalties = self.presence_penalty != 0.0 || self.frequency_penalty != 0.0;
        self.typical_p >= 1.0 && !penalties && self.dry.multiplier == 0.0
    }

    pub(crate) fn check_on_device(&self) -> Result<()> {
        if self.is_on_device() {
            return Ok(());
        }
        let what = "typical-p, presence and frequency penalties and DRY are for an engine, not for a session";
        Err(Error::Unsupported { what: what.into() })
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
        if !(0.0..=1.0).contains(&self.typical_p) {
            return bad("typical-p", "from 0 to 1", self.typical_p);
        }
        for (what, value) in [
            ("the presence penalty", self.presence_penalty),
            ("the frequency penalty", self.frequency_penalty),
            ("the multiplier of DRY", self.dry.multiplier),
        ] {
            if !(-1e6..=1e6).contains(&value) {
                return bad(what, "from -1e6 to 1e6", value);
            }
        }
        if !(1.0..=1e6).contains(&self.dry.base) {
            return bad("the base of DRY", "from 1 to 1e6", self.dry.base);
        }
        Ok(())
    }
}
