//! Opening the models that are served.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;
use weft_hub::{Entry, Store, Version};
use weft_models::engine::{Engine, Event, GUESSES, Id, Options, Request};
use weft_models::{AdapterFile, Model, Pooling, Spec, Synthetic};
use weft_runtime::{Budget, Caps, DeviceKind};
use weft_server::engine::{Backend, Limits, Packed, Start, VectorHandle, Vectors, Worker};
use weft_server::{Card, Library, Listed, Served, Unopened};

use super::Flags;
use super::tuning::Base;
use crate::options::{self, LoraFlag, ModelFlag, context};
use crate::{Error, Result, mini, output, report};

/// A model that is open, under the name that requests use.
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) flag: ModelFlag,
    /// Adapters that requests can take, and what they are called.
    lora: LoraFlag,
    adapters: Vec<String>,
    /// Whether all of them are in effect where a request says nothing of them.
    adapted: bool,
    pub(super) model: Model,
    took: Duration,
    /// Names the tokens of a model that has no names for them.
    named: Option<Tokenizer>,
}

/// An engine whose model has no tokenizer, with the texts of another one's: what a server has to do for a token is what
/// it is for any.
struct Named(Engine, Tokenizer);

impl Backend for Named {
    fn submit(&mut self, request: Request) -> weft_models::Result<Id> {
        self.0.submit(request)
    }

    fn cancel(&mut self, id: Id) -> bool {
        self.0.cancel(id)
    }

    fn step(&mut self) -> weft_models::Result<Vec<Event>> {
        let mut events = self.0.step()?;
        for event in &mut events {
            if let Event::Token { token, text, .. } = event {
                // A letter stands in front of what is said, so that each token is some text.
                *text = format!(
                    "t{}",
                    self.1.token_text(*token % self.1.vocab_size() as u32).unwrap_or_default()
                );
            }
        }
        Ok(events)
    }

    fn slots(&self) -> usize {
        self.0.slots()
    }

    fn blocks(&self) -> (usize, usize) {
        self.0.blocks()
    }

    fn preempted(&self) -> u64 {
        self.0.preempted()
    }
}

/// Answers at a time.
pub(super) fn slots(f: &Flags, kind: DeviceKind) -> u32 {
    f.slots.unwrap_or(if kind == DeviceKind::Cpu { 4 } else { 16 })
}

fn engine_options(f: &Flags, slots: u32, context: u32) -> Options {
    let guesses = if f.draft.is_some() || f.draft_model.is_some() { GUESSES } else { 0 };
    Options { slots, context: Some(context), positions: f.cache_tokens, guesses, together: None }
}

/// What an engine is made of: a model, its adapters, and a smaller model that guesses.
type Parts = (Model, Vec<AdapterFile>, Option<Model>);

/// A model with an adapter.
pub(super) struct Adapted {
    pub(super) name: String,
    pub(super) lora: LoraFlag,
    pub(super) model: Model,
}

impl Adapted {
    /// An error without the path of the adapter's file.
    pub(super) fn plain(&self, e: &Error) -> String {
        let said = e.to_string();
        let shorten = |said: String, file: &String| {
            let path = file.rsplit_once(':').map_or(file.as_str(), |(path, _)| path);
            said.replace(file, "its adapter").replace(path, "its adapter")
        };
        self.lora.lora.iter().fold(said, shorten)
    }
}

/// A model that answers.
pub(super) struct Started {
    pub(super) served: Served,
    pub(super) worker: Option<Worker>,
    /// What there is to say of it.
    pub(super) line: String,
}

fn name(f: &Flags, i: usize, path: Option<&PathBuf>) -> String {
    let stem = || path?.file_stem()?.to_str().map(str::to_owned);
    f.alias.get(i).cloned().or_else(stem).unwrap_or_else(|| mini::NAME.to_owned())
}

/// Opens all models.
///
/// # Errors
/// Anything wrong with a file or the device; two models of one name.
pub(super) fn all(f: &Flags) -> Result<Vec<Opened>> {
    let paths: Vec<Option<&PathBuf>> = match f.model.is_empty() {
        // Where there is a folder, weft-mini is not asked for.
        true if f.models.is_some() => Vec::new(),
        true => vec![None],
        false => f.model.iter().map(Some).collect(),
    };
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
        let (model, took) = match &f.synthetic {
            None => flag.open(&f.device, None, f.c, f.cache)?,
            Some(text) => {
                let made = Synthetic::parse(text, None);
                let made = made.map_err(|line| Error::usage(format!("--synthetic: {line}")))?;
                options::begin(made.into(), &f.device, None, f.c, f.cache)?.finish()?
            }
        };
        let named = f.synthetic.as_ref().map(|_| flag.open_tokenizer()).transpose()?;
        all.push(Opened::new(name, flag, model, took, named));
    }
    for (name, file) in &f.lora {
        let Some(base) = all.first_mut() else {
            return Err(Error::usage("--lora is for the first -m, and there is none"));
        };
        if base.model.spec().out.pooling.is_some() {
            return Err(Error::usage("--lora is for a model that writes text, and the first -m does not"));
        }
        if base.adapters.contains(name) {
            return Err(Error::usage(format!("two adapters have the name \"{name}\"")));
        }
        base.lora.lora.push(file.clone());
        base.adapters.push(name.clone());
    }
    Ok(all)
}

/// Opens one more model, for what its file is for, with all the context that it was trained for.
///
/// # Errors
/// As [`all`].
pub(super) fn one(f: &Flags, path: &Path, others: &[Opened]) -> Result<Opened> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if !weft_hub::is_name(&name) || others.iter().any(|o| o.name == name) {
        return Err(Error::usage(format!(
            "{}: its name without .gguf must be one of letters, digits, '-', '_' and '.' that no other model has",
            path.display()
        )));
    }
    let flag = ModelFlag { model: Some(path.to_owned()) };
    let (model, took) = flag.open(&f.device, None, None, f.cache)?;
    Ok(Opened::new(name, flag, model, took, None))
}

impl Opened {
    fn new(name: String, flag: ModelFlag, model: Model, took: Duration, named: Option<Tokenizer>) -> Opened {
        Opened {
            name,
            flag,
            lora: LoraFlag::default(),
            adapters: Vec::new(),
            adapted: false,
            model,
            took,
            named,
        }
    }

    /// A model with an adapter of its own, which its name ends with.
    pub(super) fn adapted(name: &str, flag: ModelFlag, lora: LoraFlag, model: Model) -> Opened {
        let adapter = name.rsplit_once('+').map_or(name, |(_, adapter)| adapter).to_owned();
        let opened = Opened::new(name.to_owned(), flag, model, Duration::ZERO, None);
        Opened { lora, adapters: vec![adapter], adapted: true, ..opened }
    }

    /// What can be trained on it, if it has the weights of a file and writes text.
    pub(super) fn base(&self) -> Option<Base> {
        let writes = self.model.spec().out.pooling.is_none();
        (writes && self.named.is_none()).then(|| Base {
            name: self.name.clone(),
            flag: self.flag.clone(),
            model: self.model.clone(),
        })
    }

    /// The names that it has with each of its adapters alone: (name, adapter, its own name).
    pub(super) fn with_adapters(&self) -> impl Iterator<Item = Adapted> {
        let one = |(name, file): (&String, &String)| Adapted {
            name: format!("{}+{name}", self.name),
            lora: LoraFlag { lora: vec![file.clone()] },
            model: self.model.clone(),
        };
        self.adapters.iter().zip(&self.lora.lora).map(one)
    }

    /// What it computes on.
    pub(super) fn device(&self) -> Value {
        let caps = self.model.gpu().caps();
        let mut device = report::caps_json(caps);
        device["limits"] = report::limits_json(caps);
        device
    }

    fn card(&self, f: &Flags, context: u32, slots: u32, strengths: &[f32]) -> Result<Card> {
        let (model, spec) = (&self.model, self.model.spec());
        let tokenizer = match &self.named {
            Some(tokenizer) => tokenizer.clone(),
            None => model.tokenizer()?.clone(),
        };
        let template = match f.template.open(&tokenizer)? {
            Some(template) => Ok(template),
            None if self.named.is_some() => Err("its weights are made up".into()),
            None => model.template().cloned().map_err(|e| e.to_string()),
        };
        let mut facts = Map::new();
        facts.insert("architecture".into(), json!(spec.architecture));
        facts.insert("name".into(), json!(spec.name));
        let (size, digest) = match &self.flag.model {
            Some(path) => Version::of(path).map(|v| (v.size, v.digest)).unzip(),
            None => {
                let digest = weft_evals::hash::sha256(mini::GGUF);
                (Some(mini::GGUF.len() as u64), Some(digest))
            }
        };
        facts.insert("size".into(), json!(size));
        facts.insert("digest".into(), json!(digest));
        facts.insert("n_params".into(), json!(model.parameters()));
        facts.insert("quantization".into(), json!(crate::report::mixture(model)));
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Card {
            id: self.name.clone(),
            tokenizer,
            template,
            context: context as usize,
            trained: spec.context as usize,
            slots: slots as usize,
            vocabulary: spec.vocabulary,
            sampling: f.sampling.sampling(&self.flag, model.metadata()),
            created,
            adapters: self.adapters.iter().cloned().zip(strengths.iter().copied()).collect(),
            adapted: strengths.iter().copied().enumerate().filter(|_| self.adapted).collect(),
            facts,
        })
    }

    /// Takes the memory for answers.
    ///
    /// # Errors
    /// There is not enough.
    pub(super) fn start(self, f: &Flags, limits: Limits) -> Result<Started> {
        let context = context(self.model.spec(), f.c);
        options::note_context_of(&self.name, self.model.spec().context, context);
        let loaded = match self.took.is_zero() {
            true => String::new(),
            false => format!("; loaded in {:.1} s", self.took.as_secs_f64()),
        };
        if self.model.spec().out.pooling.is_some() {
            return self.start_vectors(f, context, &loaded, None);
        }
        let slots = slots(f, self.model.gpu().caps().kind);
        let (adapters, strengths): (Vec<_>, Vec<_>) = self.lora.open(self.model.spec())?.into_iter().unzip();
        let card = self.card(f, context, slots, &strengths)?;
        let mut line = format!("{}: {slots} answers at a time, {context} tokens each{loaded}", card.id);
        if !self.adapted {
            self.adapters.iter().for_each(|name| line += &format!("; and as {}+{name}", card.id));
        }
        let (flag, lora, device, cache, c) = (self.flag, self.lora, f.device.clone(), f.cache, f.c);
        let named = self.named;
        let options = engine_options(f, slots, context);
        let path = f.draft_model.clone();
        let drafter = path.map(|path| ModelFlag { model: Some(path) });
        let open = {
            let device = device.clone();
            move |flag: &ModelFlag| flag.open(&device, None, Some(context), cache).map(|(model, _)| model)
        };
        let mut first = Some((self.model, adapters, drafter.as_ref().map(&open).transpose()?));
        let again = move || -> Result<Parts> {
            let (model, _) = flag.open(&device, None, c, cache)?;
            let adapters = lora.open(model.spec())?.into_iter().map(|(adapter, _)| adapter).collect();
            Ok((model, adapters, drafter.as_ref().map(&open).transpose()?))
        };
        let start: Start = Box::new(move || {
            let parts = match first.take() {
                Some(parts) => Ok(parts),
                None if named.is_some() => return Err("the device was lost".into()),
                // The device was lost, and all that was on it.
                None => again(),
            };
            let engine = parts.and_then(|(model, adapters, drafter)| {
                let adapters: Vec<&AdapterFile> = adapters.iter().collect();
                let mut engine = Engine::with_adapters(&model, &options, &adapters)?;
                drafter.iter().try_for_each(|smaller| engine.draft_with(smaller))?;
                Ok(engine)
            });
            let engine = engine.map_err(|e| e.to_string())?;
            Ok(match &named {
                Some(tokenizer) => Box::new(Named(engine, tokenizer.clone())),
                None => Box::new(engine) as Box<dyn Backend>,
            })
        });
        let worker = Worker::spawn(start, limits).map_err(Error::input)?;
        let served = Served::text(card, worker.handle());
        Ok(Started { served, worker: Some(worker), line })
    }

    /// As [`Opened::start`], for vectors or scores; `pooling` takes the place of the file's.
    pub(super) fn start_vectors(
        self,
        f: &Flags,
        context: u32,
        loaded: &str,
        pooling: Option<Pooling>,
    ) -> Result<Started> {
        let card = self.card(f, context, 1, &[])?;
        let model = self.model;
        let reranker = model.spec().out.classes.is_some() && pooling.is_none();
        let vectors = VectorHandle::spawn(move || {
            let c = Some(context);
            let embedder = if reranker { model.reranker(c) } else { model.embedder(pooling, c) };
            let embedder = embedder.map_err(|e| e.to_string())?;
            Ok(Box::new(Packed { embedder, reranker }) as Box<dyn Vectors>)
        })
        .map_err(Error::input)?;
        let does = if reranker { "scores of documents" } else { "vectors of texts" };
        let line = format!("{}: {does}, {context} tokens each{loaded}", card.id);
        Ok(Started { served: Served::vectors(card, vectors), worker: None, line })
    }
}

/// A folder of files that are opened when they are asked for.
pub(super) struct Folder {
    store: Store,
    flags: Flags,
    limits: OnceLock<(Caps, Budget)>,
}

impl Folder {
    /// # Errors
    /// It is no folder.
    pub(super) fn new(store: &Store, flags: Flags) -> Result<Folder> {
        std::fs::read_dir(store.folder()).map_err(|e| Error::io(store.folder(), e))?;
        let flags = Flags { draft_model: None, ..flags };
        Ok(Folder { store: store.clone(), flags, limits: OnceLock::new() })
    }

    /// The names of all models.
    pub(super) fn all(&self) -> Vec<String> {
        self.store.list().into_iter().map(|e| e.name).collect()
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.store.list().into_iter().find(|e| e.name == name)
    }

    /// The file of a model.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        self.entry(name)?.files.into_iter().next()
    }

    /// How many models there are.
    pub(super) fn count(&self) -> usize {
        self.all().len()
    }
}

impl Folder {
    /// The device that models are opened on, as plans need it.
    fn limits(&self) -> Result<&(Caps, Budget)> {
        if let Some(known) = self.limits.get() {
            return Ok(known);
        }
        let gpu = pollster::block_on(weft_kernels::open(&self.flags.device.options()?))?;
        Ok(self.limits.get_or_init(|| (gpu.caps().clone(), gpu.budget().clone())))
    }

    /// What a model takes once it answers: weights, and the memory of its answers.
    fn planned(&self, file: &File) -> Result<u64> {
        let (f, spec) = (&self.flags, Spec::read(file)?);
        let (caps, budget) = self.limits()?;
        let context = context(&spec, f.c);
        let own = weft_models::Options { cache: f.cache.cache_type, ..Default::default() };
        let plan = weft_models::plan(file, &spec, context, &own, (caps, budget))?;
        if spec.out.pooling.is_some() {
            return Ok(plan.total());
        }
        let slots = slots(f, caps.kind);
        let options = engine_options(f, slots, context);
        let answers = weft_models::engine::plan(file, &spec, &own, &options, (caps, budget))?;
        Ok(plan.weights + answers.total())
    }
}

/// Whether what failed on the way to an open model can go well another time: the device had no room, or was lost. What is
/// wrong with a file stays wrong until somebody mends it.
pub(super) fn may_pass(e: &Error) -> bool {
    use weft_models::Error as Model;
    // The thread of an engine tells why it did not begin as a line.
    matches!(e, Error::Gpu(_) | Error::Input(_) | Error::Model(Model::Gpu(_) | Model::Kernel(_)))
}

impl Library for Folder {
    fn bytes(&self, name: &str) -> std::result::Result<u64, String> {
        let path = self.find(name).ok_or("it is gone")?;
        let plain = |e: Error| e.to_string().replace(&path.display().to_string(), name);
        File::open(&path).map_err(Error::from).and_then(|file| self.planned(&file)).map_err(plain)
    }

    fn list(&self) -> Vec<Listed> {
        let listed = |e: Entry| {
            let version = e.version();
            Listed {
                size: Some(e.size),
                modified: version.as_ref().map(|v| v.modified),
                digest: version.map(|v| v.digest),
                name: e.name,
            }
        };
        self.store.list().into_iter().map(listed).collect()
    }

    fn open(&self, name: &str) -> std::result::Result<weft_server::Opened, Unopened> {
        let path = self.find(name).ok_or("it is gone")?;
        let flags = Flags {
            model: vec![path.clone()],
            alias: vec![name.to_owned()],
            lora: Vec::new(),
            models: None,
            ..self.flags.clone()
        };
        let plain = |e: Error| Unopened {
            may_pass: may_pass(&e),
            why: e.to_string().replace(&path.display().to_string(), name),
        };
        let one = all(&flags).map_err(plain)?.pop().ok_or("it is gone")?;
        let limits = flags.config().map_err(plain)?.limits;
        let started = one.start(&flags, limits).map_err(plain)?;
        output::note(&started.line);
        Ok((started.served, started.worker))
    }
}
