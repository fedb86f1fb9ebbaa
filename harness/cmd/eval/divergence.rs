//! How far a model's predictions are from those of another: what quantising costs, without questions.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use weft_models::{Message, Model, Rows, Session};

use super::questions::tally_json;
use crate::options::{ModelFlag, read_text};
use crate::{Error, Result, interrupt, output, report};
use weft_curriculum::score::Tally;
use weft_curriculum::{self as curriculum, Format, Split};

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Divergence")]
pub(super) struct Flags {
    /// The model to compare with, most often the same one in F16
    #[arg(long, value_name = "FILE")]
    pub(super) against: Option<PathBuf>,
    /// The text that both read [default: conversations of the curriculum's test split]
    #[arg(short, long = "file", value_name = "TEXT")]
    file: Option<PathBuf>,
    /// Tokens of a chunk of the text
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    c: u32,
    /// Compare the first N positions
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..))]
    positions: u64,
    /// Compute one token at a time, as generation does, in place of prefill batches
    #[arg(long)]
    decode: bool,
}

impl Flags {
    /// The flags that were typed, for another call.
    pub(super) fn typed(&self) -> Vec<String> {
        let mut out =
            vec!["-c".to_owned(), self.c.to_string(), "--positions".to_owned(), self.positions.to_string()];
        out.extend(self.file.iter().flat_map(|f| ["-f".to_owned(), f.display().to_string()]));
        out.extend(self.decode.then(|| "--decode".to_owned()));
        out
    }
}

pub(super) fn run(f: &super::Flags, against: &Path) -> Result<()> {
    let d = &f.divergence;
    let domains = crate::cmd::curriculum::domains(&f.domain)?;
    let text = d.file.as_deref().map(read_text).transpose()?;
    interrupt::install(2);
    let (model, _) = f.model.open(&f.device, None, Some(d.c), f.cache)?;
    let model = f.lora.apply(model)?;
    let other = ModelFlag { model: Some(against.to_owned()) };
    let (base, _) = other.open(&f.device, None, Some(d.c), f.cache)?;
    let vocabularies = [&model, &base].map(|m| m.spec().vocabulary);
    if vocabularies[0] != vocabularies[1] {
        return Err(Error::input(format!(
            "{} has a vocabulary of {} tokens and {} one of {}; compare models of one vocabulary",
            f.model.name(),
            vocabularies[0],
            against.display(),
            vocabularies[1]
        )));
    }
    let texts = match &text {
        Some(text) => chunks(&base, text, d.c),
        None => conversations(&base, f.seed, d.positions, domains),
    }?;
    let texts = first(texts, d.positions as usize);
    let total: usize = texts.iter().map(Vec::len).sum();
    if total == 0 {
        let file = d.file.as_deref().unwrap_or(Path::new("the text"));
        return Err(Error::input(format!("{}: holds no tokens", file.display())));
    }

    let start = Instant::now();
    let context = texts.iter().map(Vec::len).max().unwrap_or(1) as u32;
    let (mut session, mut other) = (model.session(context)?, base.session(context)?);
    let rows = if d.decode { Rows::Decode } else { Rows::Prefill };
    let bar = output::bar(2 * total as u64, "divergence {bar:30} {percent}%, {elapsed}, {eta} to go");
    let mut sums = Sums::default();
    let compared = texts.iter().try_for_each(|ids| sums.compare(&mut session, &mut other, ids, rows, &bar));
    bar.finish_and_clear();
    compared?;
    let seconds = start.elapsed().as_secs_f64();
    if f.json {
        let mut value = sums.json();
        value["suite"] = "divergence".into();
        value["against"] = against.display().to_string().into();
        value["text"] = d.file.as_ref().map(|p| p.display().to_string()).into();
        value["texts"] = texts.len().into();
        value["rows"] = if d.decode { "decode" } else { "prefill" }.into();
        value["seed"] = f.seed.into();
        value["seconds"] = seconds.into();
        value["model"] = report::model_json(&f.model.name(), &model);
        value["device"] = report::caps_json(model.gpu().caps());
        return output::json(&value);
    }
    output::line(&format!("{} beside {}, {total} positions", f.model.name(), against.display()))?;
    output::text(&sums.text())?;
    output::note(&format!("{seconds:.0} s on {}", report::device_line(model.gpu().caps())));
    Ok(())
}

/// A text in chunks, the last of which may be short.
fn chunks(model: &Model, text: &str, length: u32) -> Result<Vec<Vec<u32>>> {
    let tokenizer = model.tokenizer()?;
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let each = length as usize - usize::from(bos.is_some() && length > 1);
    let ids = tokenizer.encode(text, true);
    Ok(ids.chunks(each).map(|c| bos.into_iter().chain(c.iter().copied()).collect()).collect())
}

/// Conversations of the curriculum's test split, openly asked and with options in turn, with their answers;
/// enough of them for so many positions.
fn conversations(
    model: &Model,
    seed: u64,
    positions: u64,
    domains: Vec<&'static curriculum::Domain>,
) -> Result<Vec<Vec<u32>>> {
    let tokenizer = model.tokenizer()?;
    let of = |format| curriculum::generate(seed, u64::MAX, Split::Test, format, domains.clone());
    let (mut texts, mut total) = (Vec::new(), 0);
    for sample in of(Format::Chat).zip(of(Format::Mcq)).flat_map(|(open, options)| [open, options]) {
        let mut ids = model.chat(&[Message::new("user", sample.prompt.as_str())], None)?;
        ids.extend(tokenizer.encode(&sample.target, true));
        ids.extend(tokenizer.eos());
        total += ids.len() as u64;
        texts.push(ids);
        if total >= positions {
            break;
        }
    }
    Ok(texts)
}

/// The texts up to so many positions.
fn first(mut texts: Vec<Vec<u32>>, positions: usize) -> Vec<Vec<u32>> {
    let mut left = positions;
    for text in &mut texts {
        text.truncate(left);
        left -= text.len();
    }
    texts.retain(|t| !t.is_empty());
    texts
}

/// What is added up over positions.
#[derive(Default)]
struct Sums {
    /// The divergence of each position, in nats.
    divergences: Vec<f64>,
    same: u64,
    /// Sums of squares: of differences of logits, and of the other model's logits.
    error: f64,
    energy: f64,
    /// Positions whose next token is known, and what each model gave it, in nats.
    known: u64,
    surprise: f64,
    surprise_other: f64,
}

impl Sums {
    /// Both models on one text.
    fn compare(
        &mut self,
        session: &mut Session,
        other: &mut Session,
        ids: &[u32],
        rows: Rows,
        bar: &indicatif::ProgressBar,
    ) -> Result<()> {
        let mut expected = Vec::new();
        other.logits(ids, rows, &mut |_, row| {
            expected.push(row.to_vec());
            bar.inc(1);
            interrupt::flow()
        })?;
        session.logits(ids, rows, &mut |position, row| {
            let position = position as usize;
            self.add(row, &expected[position], ids.get(position + 1).map(|&id| id as usize));
            bar.inc(1);
            interrupt::flow()
        })?;
        Ok(())
    }

    /// One position: the model's logits, the other's, the token that comes next.
    fn add(&mut self, q: &[f32], p: &[f32], next: Option<usize>) {
        let (lq, lp) = (log_softmax(q), log_softmax(p));
        let divergence = lp.iter().zip(&lq).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        // What rounding leaves of equal distributions may be below 0.
        self.divergences.push(if divergence < 0.0 { 0.0 } else { divergence });
        self.same += u64::from(likeliest(q) == likeliest(p));
        self.error += p.iter().zip(q).map(|(p, q)| (f64::from(*q) - f64::from(*p)).powi(2)).sum::<f64>();
        self.energy += p.iter().map(|p| f64::from(*p).powi(2)).sum::<f64>();
        if let Some(next) = next {
            self.known += 1;
            self.surprise -= lq[next];
            self.surprise_other -= lp[next];
        }
    }

    fn positions(&self) -> f64 {
        self.divergences.len() as f64
    }

    /// Mean, its standard error, median, 99th percentile, largest.
    fn divergence(&self) -> [f64; 5] {
        let mut sorted = self.divergences.clone();
        sorted.sort_by(f64::total_cmp);
        let n = self.positions();
        let mean = sorted.iter().sum::<f64>() / n;
        let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let at = |share: f64| sorted[((n - 1.0) * share).round() as usize];
        [mean, (variance / n).sqrt(), at(0.5), at(0.99), at(1.0)]
    }

    fn nmse(&self) -> f64 {
        if self.energy > 0.0 { self.error / self.energy } else { self.error }
    }

    fn same(&self) -> Tally {
        Tally { right: self.same, total: self.divergences.len() as u64 }
    }

    /// That of the model, and that of the other.
    fn perplexities(&self) -> Option<[f64; 2]> {
        let n = self.known as f64;
        (self.known > 0).then(|| [self.surprise, self.surprise_other].map(|s| (s / n).exp()))
    }

    fn text(&self) -> String {
        let [mean, error, median, p99, most] = self.divergence();
        let (low, high) = self.same().interval();
        let mut text = format!(
            "  KL divergence   {mean:.6} ± {error:.6} nats, median {median:.6}, 99 % {p99:.6}, largest {most:.6}
  same top token  {:.2} %  [{:.2}, {:.2}]
  NMSE of logits  {:.2e}
",
            100.0 * self.same().share(),
            100.0 * low,
            100.0 * high,
            self.nmse()
        );
        if let Some([own, other]) = self.perplexities() {
            text += &format!("  perplexity      {own:.4} beside {other:.4}\n");
        }
        text
    }

    fn json(&self) -> Value {
        let [mean, error, median, p99, most] = self.divergence();
        let perplexities = self.perplexities();
        json!({
            "positions": self.divergences.len(),
            "kl": { "mean": mean, "standard_error": error, "median": median, "p99": p99, "max": most },
            "same_top": tally_json(self.same()),
            "nmse": self.nmse(),
            "perplexity": perplexities.map(|p| p[0]),
            "perplexity_against": perplexities.map(|p| p[1]),
        })
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - most).exp()).sum();
    let shift = most + sum.ln();
    logits.iter().map(|&v| f64::from(v) - shift).collect()
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::Sums;

    #[test]
    fn two_tokens_by_hand() {
        let mut sums = Sums::default();
        // p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2.
        sums.add(&[1.0, 1.0], &[3f32.ln(), 0.0], Some(0));
        let want = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((sums.divergence()[0] - want).abs() < 1e-7, "{:?}", sums.divergence());
        // The first of equal ones is the likeliest.
        assert_eq!(sums.same().right, 1);
        let [own, other] = sums.perplexities().expect("a next token");
        assert!((own - 2.0).abs() < 1e-9 && (other - 4.0 / 3.0).abs() < 1e-6, "{own} {other}");
        let (error, energy) = ((3f64.ln() - 1.0).powi(2) + 1.0, 3f64.ln().powi(2));
        assert!((sums.nmse() - error / energy).abs() < 1e-6);
        sums.add(&[0.0, 2.0], &[2.0, 0.0], None);
        assert_eq!((sums.same().right, sums.same().total, sums.known), (1, 2, 1));
    }

    /// A constant on all logits changes no prediction.
    #[test]
    fn shifted_logits_do_not_diverge() {
        let mut sums = Sums::default();
        sums.add(&[101.0, 100.0, 97.0], &[1.0, 0.0, -3.0], Some(2));
        assert!(sums.divergence()[0] < 1e-12 && sums.same().right == 1 && sums.nmse() > 1.0);
    }
}
