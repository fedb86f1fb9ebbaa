//! Opening the models that are served.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use weft_models::Model;
use weft_models::engine::{Engine, Options};
use weft_runtime::DeviceKind;
use weft_server::engine::{Backend, Limits, Packed, Start, VectorHandle, Vectors, Worker};
use weft_server::{Card, Served};

use super::Flags;
use crate::options::{LoraFlag, ModelFlag, context};
use crate::{Error, Result, mini, report};

/// A model that is open, under the name that requests use.
pub(super) struct Opened {
    name: String,
    flag: ModelFlag,
    lora: LoraFlag,
    model: Model,
    took: Duration,
}

/// A model that answers.
pub(super) struct Started {
    pub(super) served: Served,
    pub(super) worker: Option<Worker>,
    /// What there is to say of it.
    pub(super) line: String,
}

/// Whether a name can stand in a request, in a path and behind a '+'.
pub(super) fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(known)
}

fn name(f: &Flags, i: usize, path: Option<&PathBuf>) -> String {
    let stem = || path?.file_stem()?.to_str().map(str::to_owned);
    f.alias.get(i).cloned().or_else(stem).unwrap_or_else(|| mini::NAME.to_owned())
}

/// Opens all models, and the first once more with each adapter: its weights are shared.
///
/// # Errors
/// Anything wrong with a file or the device; two models of one name.
pub(super) fn all(f: &Flags) -> Result<Vec<Opened>> {
    let paths: Vec<Option<&PathBuf>> =
        if f.model.is_empty() { vec![None] } else { f.model.iter().map(Some).collect() };
    if f.alias.len() > paths.len() {
        return Err(Error::usage("there are more --alias than models"));
    }
    let mut all: Vec<Opened> = Vec::new();
    for (i, path) in paths.into_iter().enumerate() {
        let name = name(f, i, path);
        if all.iter().any(|o| o.name == name) {
            return Err(Error::usage(format!(
                "two models have the name \"{name}\"; --alias gives them others"
            )));
        }
        let flag = ModelFlag { model: path.cloned() };
        let (model, took) = flag.open(&f.device, None, f.c, f.cache)?;
        all.push(Opened { name, flag, lora: LoraFlag::default(), model, took });
    }
    for (name, file) in &f.lora {
        let base = &all[0];
        let lora = LoraFlag { lora: vec![file.clone()] };
        let name = format!("{}+{name}", base.name);
        let (model, took) = (lora.apply(base.model.clone())?, Duration::ZERO);
        let flag = base.flag.clone();
        all.push(Opened { name, flag, lora, model, took });
    }
    Ok(all)
}

impl Opened {
    /// What it computes on.
    pub(super) fn device(&self) -> Value {
        let caps = self.model.gpu().caps();
        let mut device = report::caps_json(caps);
        device["limits"] = report::limits_json(caps);
        device
    }

    fn card(&self, f: &Flags, context: u32, slots: u32) -> Result<Card> {
        let (model, spec) = (&self.model, self.model.spec());
        let tokenizer = model.tokenizer()?.clone();
        let template = match f.template.open(&tokenizer)? {
            Some(template) => Ok(template),
            None => model.template().cloned().map_err(|e| e.to_string()),
        };
        let mut facts = Map::new();
        facts.insert("architecture".into(), json!(spec.architecture));
        facts.insert("name".into(), json!(spec.name));
        let size = match &self.flag.model {
            Some(path) => std::fs::metadata(path).ok().map(|m| m.len()),
            None => Some(mini::GGUF.len() as u64),
        };
        facts.insert("size".into(), json!(size));
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Card {
            id: self.name.clone(),
            tokenizer,
            template,
            context: context as usize,
            trained: spec.context as usize,
            slots: slots as usize,
            vocabulary: spec.vocabulary,
            sampling: f.sampling.sampling(&self.flag),
            created,
            facts,
        })
    }

    /// Takes the memory for answers.
    ///
    /// # Errors
    /// There is not enough.
    pub(super) fn start(self, f: &Flags, limits: Limits) -> Result<Started> {
        let software = self.model.gpu().caps().kind == DeviceKind::Cpu;
        let context = context(self.model.spec(), f.c);
        crate::options::note_context(self.model.spec().context, context);
        let loaded = match self.took.is_zero() {
            true => String::new(),
            false => format!("; loaded in {:.1} s", self.took.as_secs_f64()),
        };
        if self.model.spec().out.pooling.is_some() {
            return self.start_vectors(f, context, &loaded);
        }
        let slots = f.slots.unwrap_or(if software { 4 } else { 16 });
        let card = self.card(f, context, slots)?;
        let line = format!("{}: {slots} answers at a time, {context} tokens each{loaded}", card.id);
        let (flag, lora, device, cache, c) = (self.flag, self.lora, f.device.clone(), f.cache, f.c);
        let positions = f.cache_tokens;
        let mut first = Some(self.model);
        let start: Start = Box::new(move || {
            let model = match first.take() {
                Some(model) => Ok(model),
                // The device was lost, and all that was on it.
                None => flag.open(&device, None, c, cache).and_then(|(model, _)| lora.apply(model)),
            };
            let options = Options { slots, context: Some(context), positions };
            let engine = model.and_then(|m| Ok(Engine::new(&m, &options)?)).map_err(|e| e.to_string())?;
            Ok(Box::new(engine) as Box<dyn Backend>)
        });
        let worker = Worker::spawn(start, limits).map_err(Error::input)?;
        let served = Served::text(card, worker.handle());
        Ok(Started { served, worker: Some(worker), line })
    }

    fn start_vectors(self, f: &Flags, context: u32, loaded: &str) -> Result<Started> {
        let card = self.card(f, context, 1)?;
        let (model, c) = (self.model, f.c);
        let reranker = model.spec().out.classes.is_some();
        let vectors = VectorHandle::spawn(move || {
            let embedder = if reranker { model.reranker(c) } else { model.embedder(None, c) };
            let embedder = embedder.map_err(|e| e.to_string())?;
            Ok(Box::new(Packed { embedder, reranker }) as Box<dyn Vectors>)
        })
        .map_err(Error::input)?;
        let does = if reranker { "scores of documents" } else { "vectors of texts" };
        let line = format!("{}: {does}, {context} tokens each{loaded}", card.id);
        Ok(Started { served: Served::vectors(card, vectors), worker: None, line })
    }
}
