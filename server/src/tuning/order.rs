//! What a request asks of a run, read as OpenAI's clients write it, with the settings that a LoRA has beside.

use serde_json::{Map, Value, json};
use weft_models::finetune::{Learn, Length, Overlong, Recipe, Schedule, Warmup};
use weft_models::train::{AdamW, Checkpointing, MAX_RANK};

use crate::error::{ApiError, Result};
use crate::fields::Fields;

/// The learning rate that a multiplier of 1 means.
const RATE: f32 = 2e-4;

/// Characters of a name at most.
const NAME: usize = 64;

/// What a request asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) base: String,
    pub(crate) training: String,
    pub(crate) validation: Option<String>,
    /// The name of what comes of it, behind the base's and a '+'.
    pub(crate) suffix: Option<String>,
    pub(crate) seed: u64,
    /// As it was asked for.
    pub(crate) asked: Map<String, Value>,
    /// Whether a step is timed, where it is a plan.
    pub(crate) measure: bool,
}

/// The settings that stand in the hyper-parameters.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) recipe: Recipe,
    pub(crate) share: Option<f64>,
    pub(crate) save_every: Option<u64>,
    pub(crate) eval_every: u64,
}

impl Wish {
    /// Reads a request. `finish` refuses what nobody took.
    pub(crate) fn read(mut f: Fields, plan: bool, finish: impl FnOnce(Fields) -> Result<()>) -> Result<Wish> {
        let base = f.need_text("model")?;
        let training = f.need_text("training_file")?;
        let validation = f.text("validation_file")?;
        let suffix = f.text("suffix")?;
        let seed = f.whole("seed", 0, u64::from(u32::MAX))?.unwrap_or(42);
        let mut method = f.object("method")?;
        let old = f.object("hyperparameters")?;
        let measure = if plan { f.flag("measure")?.unwrap_or(false) } else { false };
        f.refuse(&[
            ("integrations", "no other service is told of a job"),
            ("metadata", "a job has a name, by \"suffix\""),
        ])?;
        finish(f)?;
        let new = match &mut method {
            None => None,
            Some(m) => {
                let kind = m.text("type")?;
                if kind.as_deref().is_some_and(|k| k != "supervised") {
                    return Err(ApiError::unsupported("method.type", "\"method.type\" is supervised here"));
                }
                m.object("supervised")?
            }
        };
        if let Some(m) = method {
            m.finish(None)?;
        }
        let new = match new {
            None => None,
            Some(mut s) => {
                let inner = s.object("hyperparameters")?;
                s.finish(None)?;
                inner
            }
        };
        let asked = match (new, old) {
            (Some(_), Some(_)) => {
                let line = "hyper-parameters stand either in \"hyperparameters\" or in \"method\"";
                return Err(ApiError::bad("invalid_value", line).at("hyperparameters"));
            }
            (Some(f), None) | (None, Some(f)) => f.rest(),
            (None, None) => Map::new(),
        };
        settings(&asked, seed)?;
        if let Some(name) = &suffix {
            check_name(name)?;
        }
        Ok(Wish { base, training, validation, suffix, seed, asked, measure })
    }
}

/// Whether a name can stand behind a base's and a '+'.
fn check_name(name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= NAME && name.chars().all(known) {
        return Ok(());
    }
    let line = format!(
        "\"suffix\" must be 1 to {NAME} letters, digits, '-', '_' and '.', the first a letter or a digit"
    );
    Err(ApiError::value("suffix", line))
}

/// Takes a field that OpenAI's clients may leave to the server.
fn or_auto<T>(
    f: &mut Fields,
    name: &'static str,
    take: impl FnOnce(&mut Fields) -> Result<Option<T>>,
) -> Result<Option<T>> {
    if f.is(name, &json!("auto")) {
        f.take(name);
        return Ok(None);
    }
    take(f)
}

/// Reads hyper-parameters.
pub(crate) fn settings(asked: &Map<String, Value>, seed: u64) -> Result<Settings> {
    let plain = Recipe::default();
    let mut f = Fields::inner(asked.clone().into(), "hyperparameters")?;
    let epochs = or_auto(&mut f, "n_epochs", |f| f.whole("n_epochs", 1, 1000))?;
    let steps = f.whole("n_steps", 1, 1_000_000)?;
    if epochs.is_some() && steps.is_some() {
        return Err(ApiError::value(
            "n_steps",
            "\"n_steps\" stands in place of \"n_epochs\"; give one of them",
        ));
    }
    let batch = or_auto(&mut f, "batch_size", |f| f.whole("batch_size", 1, 4096))?;
    let times =
        or_auto(&mut f, "learning_rate_multiplier", |f| f.number("learning_rate_multiplier", 1e-6, 1e4))?;
    let rate = f.number("learning_rate", 1e-9, 10.0)?;
    let whole = |n: Option<u64>, plain: u32| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(plain);
    let rank = whole(f.whole("rank", 1, u64::from(MAX_RANK))?, plain.rank);
    let checkpointing = f.flag("checkpointing")?;
    let memory = f.whole("memory", 1, u64::MAX >> 1)?;
    if checkpointing.is_some() && memory.is_some() {
        return Err(ApiError::value(
            "memory",
            "\"memory\" decides layer by layer what \"checkpointing\" says of all; give one of them",
        ));
    }
    let targets = f.text("targets")?;
    let targets = targets.map(|t| Recipe::parse_targets(&t)).transpose();
    let recipe = Recipe {
        rank,
        // As much as by default, whatever the rank.
        alpha: f.number("alpha", 1e-3, 1e5)?.unwrap_or(2.0 * rank as f32),
        targets: targets.map_err(|e| ApiError::value("targets", format!("\"targets\": {e}")))?,
        rslora: f.flag("rslora")?.unwrap_or(false),
        dropout: f.number("dropout", 0.0, 0.95)?.unwrap_or(0.0),
        optimiser: AdamW {
            lr: rate.unwrap_or(RATE * times.unwrap_or(1.0)),
            weight_decay: f.number("weight_decay", 0.0, 1.0)?.unwrap_or(plain.optimiser.weight_decay),
            clip: f.number("clip", 0.0, 1e6)?.unwrap_or(plain.optimiser.clip),
            ..plain.optimiser
        },
        schedule: match f.choice("schedule", &["constant", "cosine", "linear"])? {
            Some("constant") => Schedule::Constant,
            Some("linear") => Schedule::Linear,
            _ => Schedule::Cosine,
        },
        warmup: Warmup::Ratio(f64::from(f.number("warmup", 0.0, 1.0)?.unwrap_or(0.0))),
        length: steps.map_or(Length::Epochs(epochs.unwrap_or(1)), Length::Steps),
        batch: whole(batch, plain.batch),
        accumulate: whole(f.whole("accumulate", 1, 4096)?, 1),
        context: whole(f.whole("context", 2, 1 << 20)?, plain.context),
        pack: f.flag("pack")?.unwrap_or(false),
        learn: match f.choice("loss", &["assistant", "all"])? {
            Some("all") => Learn::All,
            _ => Learn::Assistant,
        },
        overlong: match f.choice("overlong", &["truncate", "drop", "error"])? {
            Some("drop") => Overlong::Drop,
            Some("error") => Overlong::Error,
            _ => Overlong::Truncate,
        },
        checkpointing: memory.map_or(checkpointing.unwrap_or(true).into(), Checkpointing::Within),
        ignore_keys: Vec::new(),
        seed,
    };
    let share = f.number("validation_share", 0.0, 0.5)?.filter(|s| *s > 0.0).map(f64::from);
    let save_every = f.whole("save_every", 1, 1_000_000)?;
    let eval_every = f.whole("eval_every", 0, 1_000_000)?.unwrap_or(0);
    f.finish(None)?;
    Ok(Settings { recipe, share, save_every, eval_every })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_models::finetune::Length;
    use weft_models::train::Checkpointing;

    use super::settings;

    #[test]
    fn settings_are_taken_or_refused_by_name() {
        let of = |v: serde_json::Value| settings(v.as_object().expect("an object"), 7);
        let s = of(json!({ "n_epochs": "auto", "batch_size": 2, "learning_rate_multiplier": 5, "rank": 8 }))
            .unwrap();
        assert_eq!((s.recipe.length, s.recipe.batch, s.recipe.seed), (Length::Epochs(1), 2, 7));
        assert!((s.recipe.optimiser.lr - 1e-3).abs() < 1e-8 && s.recipe.alpha == 16.0, "{:?}", s.recipe);
        let line = |v| of(v).unwrap_err().message;
        assert_eq!(
            line(json!({ "epochs": 3 })),
            "\"hyperparameters.epochs\" is not known; did you mean \"n_epochs\"?"
        );
        let kept = |v| of(v).unwrap().recipe.checkpointing;
        assert_eq!(kept(json!({ "memory": 6_000_000_000_u64 })), Checkpointing::Within(6_000_000_000));
        assert_eq!((kept(json!({})), kept(json!({ "checkpointing": false }))), (true.into(), false.into()));
        assert!(line(json!({ "memory": 6, "checkpointing": true })).contains("give one of them"));
        assert!(line(json!({ "rank": 257 })).contains("a whole number from 1 to 256"));
        assert!(line(json!({ "n_steps": 3, "n_epochs": 3 })).contains("give one of them"));
        assert!(line(json!({ "targets": "x" })).contains("is none of attn"));
    }
}
