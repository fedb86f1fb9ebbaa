//! How tokens are drawn.

use weft_formats::gguf::{Metadata, Value};
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

    /// Whether it can be drawn like this.
    ///
    /// # Errors
    /// A value out of its range.
    pub fn check(&self) -> Result<()> {
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

/// What a file says of how its model is to be drawn from (`general.sampling.*`, as llama.cpp reads it).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileSampling {
    /// `temp`.
    pub temperature: Option<f32>,
    /// `top_k`; 0 keeps all.
    pub top_k: Option<u32>,
    /// `top_p`.
    pub top_p: Option<f32>,
    /// `min_p`.
    pub min_p: Option<f32>,
    /// `penalty_repeat`.
    pub repeat_penalty: Option<f32>,
    /// `penalty_last_n`.
    pub repeat_last_n: Option<u32>,
    /// A line for each key that says what cannot be, or what nothing here does.
    pub warnings: Vec<String>,
}

impl FileSampling {
    /// Reads the keys.
    pub fn read(metadata: &Metadata) -> FileSampling {
        let mut file = FileSampling::default();
        for (key, value) in metadata.iter() {
            let Some(name) = key.strip_prefix("general.sampling.") else { continue };
            let number = number(value);
            let within = |low: f32, high: f32| number.map(|v| v as f32).filter(|v| (low..=high).contains(v));
            // Negative counts stand for all there is.
            let count = || number.filter(|v| v.fract() == 0.0).map(|v| v.clamp(0.0, 1e9) as u32);
            let read = match name {
                "temp" => set(&mut file.temperature, within(-1e6, 1e6).map(|t| t.max(0.0))),
                "top_k" => set(&mut file.top_k, count()),
                "top_p" => set(&mut file.top_p, within(0.0, 1e6).map(|p| p.min(1.0))),
                "min_p" => set(&mut file.min_p, within(-1e6, 1.0).map(|p| p.max(0.0))),
                "penalty_repeat" => set(&mut file.repeat_penalty, within(1e-6, 1e6)),
                "penalty_last_n" => {
                    let all = number.is_some_and(|v| v < 0.0);
                    set(
                        &mut file.repeat_last_n,
                        if all { Some(1 << 20) } else { count().map(|n| n.min(1 << 20)) },
                    )
                }
                // How the two would be done where they are on.
                "mirostat_tau" | "mirostat_eta" | "xtc_threshold" => true,
                "mirostat" | "xtc_probability" if number == Some(0.0) => true,
                _ => {
                    file.warnings.push(format!("{key} is not honoured: no such sampling is here"));
                    true
                }
            };
            if !read {
                file.warnings.push(format!("{key} is no value that it can have, so the default counts"));
            }
        }
        file
    }

    /// Defaults with what the file says in their place.
    pub fn over(&self, mut sampling: Sampling) -> Sampling {
        let put = |to: &mut f32, value: Option<f32>| *to = value.unwrap_or(*to);
        put(&mut sampling.temperature, self.temperature);
        put(&mut sampling.top_p, self.top_p);
        put(&mut sampling.min_p, self.min_p);
        put(&mut sampling.repeat_penalty, self.repeat_penalty);
        sampling.top_k = self.top_k.unwrap_or(sampling.top_k);
        sampling.repeat_last_n = self.repeat_last_n.unwrap_or(sampling.repeat_last_n);
        sampling
    }

    /// What it says, by llama.cpp's names, for people; empty where it says nothing.
    pub fn words(&self) -> String {
        let number = |v: Option<f32>| v.map(|v| v.to_string());
        let count = |v: Option<u32>| v.map(|v| v.to_string());
        let all = [
            ("temp", number(self.temperature)),
            ("top-k", count(self.top_k)),
            ("top-p", number(self.top_p)),
            ("min-p", number(self.min_p)),
            ("repeat penalty", number(self.repeat_penalty)),
            ("over the last", count(self.repeat_last_n)),
        ];
        let said = all.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        said.collect::<Vec<_>>().join(", ")
    }
}

/// Sets what there is; whether there is anything.
fn set<T>(to: &mut Option<T>, value: Option<T>) -> bool {
    *to = value;
    to.is_some()
}

/// A number of any type, in words too, as llama.cpp takes it.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::U8(v) => f64::from(*v),
        Value::I8(v) => f64::from(*v),
        Value::U16(v) => f64::from(*v),
        Value::I16(v) => f64::from(*v),
        Value::U32(v) => f64::from(*v),
        Value::I32(v) => f64::from(*v),
        Value::U64(v) => *v as f64,
        Value::I64(v) => *v as f64,
        Value::F32(v) => f64::from(*v),
        Value::F64(v) => *v,
        Value::Str(text) => text.trim().parse().ok()?,
        Value::Bool(_) | Value::Array(_) => return None,
    };
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use weft_formats::gguf::{Metadata, Value};

    use super::{FileSampling, Sampling};

    #[test]
    fn a_file_says_how_it_is_drawn_from() {
        let mut m = Metadata::new();
        let mut say = |name: &str, value| m.set(format!("general.sampling.{name}"), value);
        say("temp", Value::F32(0.6));
        say("top_k", Value::I32(20));
        say("top_p", Value::Str("0.9".into()));
        say("min_p", Value::F32(f32::NAN));
        say("penalty_repeat", Value::F32(-1.0));
        say("penalty_last_n", Value::I32(-1));
        say("mirostat", Value::I32(2));
        say("xtc_probability", Value::F32(0.0));
        say("xtc_threshold", Value::F32(0.1));
        let file = FileSampling::read(&m);
        let s = file.over(Sampling::default());
        assert_eq!((s.temperature, s.top_k, s.top_p, s.repeat_last_n), (0.6, 20, 0.9, 1 << 20));
        assert_eq!((s.min_p, s.repeat_penalty), (0.05, 1.0));
        assert!(s.check().is_ok());
        let told: Vec<&str> = file.warnings.iter().filter_map(|w| w.split(' ').next()).collect();
        assert_eq!(told, ["min_p", "penalty_repeat", "mirostat"].map(|n| format!("general.sampling.{n}")));
        assert_eq!(file.words(), "temp 0.6, top-k 20, top-p 0.9, over the last 1048576");
        assert_eq!(FileSampling::read(&Metadata::new()), FileSampling::default());
        // Any number is a sampling that an engine takes.
        for v in [-1e9, -1.0, 0.0, 0.5, 1.0, 3.0, 1e9, f32::INFINITY] {
            let mut m = Metadata::new();
            for name in ["temp", "top_k", "top_p", "min_p", "penalty_repeat", "penalty_last_n"] {
                m.set(format!("general.sampling.{name}"), Value::F32(v));
            }
            assert!(FileSampling::read(&m).over(Sampling::default()).check().is_ok(), "{v}");
        }
    }
}
