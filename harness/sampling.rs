//! Flags of how tokens are drawn, and what a model's file says of that where they are not given.

use clap::Args;
use weft_formats::gguf::Metadata;
use weft_models::{FileSampling, Sampling};

use crate::options::ModelFlag;
use crate::{Result, output};

/// How tokens are drawn. What is not given is as the file says (`general.sampling.*`), or else as llama.cpp has it.
#[derive(Debug, Clone, Args)]
pub struct SamplingFlags {
    /// Temperature; 0 always takes the likeliest token [default: what the file says, or 0.8; 0 for weft-mini]
    #[arg(long, value_name = "T", help_heading = "Sampling")]
    pub temp: Option<f32>,
    /// Keep the K likeliest tokens; 0 keeps all [default: what the file says, or 40]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub top_k: Option<u32>,
    /// Keep the fewest tokens that together have this probability; 1 keeps all [default: what the file
    /// says, or 0.95]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub top_p: Option<f32>,
    /// Keep tokens with at least this part of the likeliest one's probability; 0 keeps all [default: what the file
    /// says, or 0.05]
    #[arg(long, value_name = "P", help_heading = "Sampling")]
    pub min_p: Option<f32>,
    /// Make the last 64 tokens less likely to come again; 1 does nothing [default: what the file says, or 1]
    #[arg(long, value_name = "X", help_heading = "Sampling")]
    pub repeat_penalty: Option<f32>,
    /// The same seed gives the same text on the same device [default: another one each time]
    #[arg(long, value_name = "N", help_heading = "Sampling", value_parser = seed)]
    pub seed: Option<u32>,
}

/// A seed; -1 draws one, as llama.cpp's users know it.
fn seed(text: &str) -> std::result::Result<u32, String> {
    match text {
        "-1" => Ok(clock()),
        _ => text.parse().map_err(|_| format!("a seed is a whole number from 0 to {}", u32::MAX)),
    }
}

/// A seed of what has to be the same again, of 64 bits: none is drawn.
///
/// # Errors
/// Anything else than such a number.
pub fn whole_seed(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| format!("a seed is a whole number from 0 to {} here", u64::MAX))
}

/// A seed from the clock.
fn clock() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() ^ now.as_secs() as u32
}

impl SamplingFlags {
    /// Refuses values that cannot be, before a model is opened for them.
    ///
    /// # Errors
    /// There is one.
    pub fn check(&self) -> Result<()> {
        Ok(self.put(Sampling::default()).check()?)
    }

    /// What was given, in the place of other values.
    fn put(&self, s: Sampling) -> Sampling {
        Sampling {
            temperature: self.temp.unwrap_or(s.temperature),
            top_k: self.top_k.unwrap_or(s.top_k),
            top_p: self.top_p.unwrap_or(s.top_p),
            min_p: self.min_p.unwrap_or(s.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(s.repeat_penalty),
            ..s
        }
    }

    /// The values for a model with this metadata, with a seed drawn from the clock where none was given. What comes from
    /// the file is said on stderr.
    pub fn sampling(&self, model: &ModelFlag, metadata: &Metadata) -> Sampling {
        let file = FileSampling::read(metadata);
        let name = model.name();
        file.warnings.iter().for_each(|line| output::note(&format!("warning: {name}: {line}")));
        let left = FileSampling {
            temperature: file.temperature.filter(|_| self.temp.is_none()),
            top_k: file.top_k.filter(|_| self.top_k.is_none()),
            top_p: file.top_p.filter(|_| self.top_p.is_none()),
            min_p: file.min_p.filter(|_| self.min_p.is_none()),
            repeat_penalty: file.repeat_penalty.filter(|_| self.repeat_penalty.is_none()),
            repeat_last_n: file.repeat_last_n,
            warnings: Vec::new(),
        };
        let words = left.words();
        if !words.is_empty() {
            output::note(&format!("{name}: says how it is drawn from: {words}"));
        }
        // weft-mini computes; a drawn digit is a wrong one.
        let temperature = if model.model.is_some() { 0.8 } else { 0.0 };
        let s = file.over(Sampling { temperature, ..Sampling::default() });
        Sampling { seed: self.seed.unwrap_or_else(clock), ..self.put(s) }
    }
}
