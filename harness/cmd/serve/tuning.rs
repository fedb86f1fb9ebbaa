//! What trains for `weft serve --jobs`: the code of `weft finetune`, on models that answer meanwhile.

use std::fmt::Display;
use std::path::Path;

use weft_formats::tokenizer::Tokenizer;
use weft_models::finetune::{self, Data, DataError, Finetune, Saving, Settings, State};
use weft_models::train::{Checkpointing, TrainOptions, TrainPlan};
use weft_models::{Model, Spec};
use weft_runtime::human;
use weft_server::Unopened;
use weft_server::tuning::{Order, PROBLEMS, Plan, Problem, Refused, Stop, Text, Told, Tuner};

use super::Flags;
use super::open::{self, Adapted, Folder, Opened};
use crate::options::{CacheFlag, LoraFlag, ModelFlag, read_text};
use crate::{Error, Result};

/// A model that answers, and can be trained on.
pub(super) struct Base {
    pub(super) name: String,
    pub(super) flag: ModelFlag,
    pub(super) model: Model,
}

/// All that can be trained on.
pub(super) struct Bases {
    pub(super) open: Vec<Base>,
    /// Those with an adapter of --lora, which can be asked alone.
    pub(super) adapted: Vec<Adapted>,
    pub(super) folder: Option<Folder>,
    pub(super) flags: Flags,
}

/// Data and settings of a run.
struct Read {
    spec: Spec,
    tokenizer: Tokenizer,
    data: Data,
    validation: Option<Data>,
    settings: Settings,
}

fn line(e: impl Display) -> Refused {
    Refused::Line(e.to_string())
}

fn problem(file: &str, e: &DataError) -> Problem {
    Problem { file: file.to_owned(), place: e.place().map(str::to_owned), what: e.what() }
}

impl Bases {
    pub(super) fn flag(&self, base: &str) -> std::result::Result<ModelFlag, String> {
        if let Some(open) = self.open.iter().find(|b| b.name == base) {
            return Ok(open.flag.clone());
        }
        let path = self.folder.as_ref().and_then(|f| f.find(base)).ok_or("the model is gone")?;
        Ok(ModelFlag { model: Some(path) })
    }

    /// The model, opened where it does not answer under its own name, and whether it was open.
    pub(super) fn model(&self, base: &str, flag: &ModelFlag) -> Result<(Model, bool)> {
        match self.open.iter().find(|b| b.name == base) {
            Some(open) => Ok((open.model.clone(), true)),
            // No cache is needed to train.
            None => {
                let (model, _) = flag.open(&self.flags.device, Some(1), Some(1), CacheFlag::default())?;
                Ok((model, false))
            }
        }
    }

    /// An error without the path of the model's file.
    pub(super) fn plain(&self, base: &str, flag: &ModelFlag, e: impl Display) -> String {
        e.to_string().replace(&flag.name(), base)
    }

    fn read(&self, order: &Order, flag: &ModelFlag) -> std::result::Result<Read, Refused> {
        let wrong = |e: &dyn Display| line(self.plain(&order.base, flag, e));
        let file = flag.open_file().map_err(|e| wrong(&e))?;
        let spec = Spec::read(&file).map_err(|e| wrong(&e))?;
        if order.recipe.context > spec.context {
            let (asked, most) = (order.recipe.context, spec.context);
            let what = format!("a context of {asked} is longer than that of {}, which is {most}", order.base);
            return Err(Refused::Line(what));
        }
        let source = self.flags.template.chat_template.as_deref().map(read_text).transpose();
        let source = source.map_err(|e| wrong(&e))?;
        let (tokenizer, template) =
            finetune::tokenizer_and_template(&file, source.as_deref()).map_err(|e| wrong(&e))?;
        let how = order.recipe.reading(&tokenizer, &template, order.now);
        let read = |text: &Text| {
            Data::check(&text.name, text.bytes.clone(), &how, PROBLEMS)
                .map_err(|all| all.iter().map(|e| problem(&text.name, e)).collect::<Vec<_>>())
        };
        let (data, validation) = match (read(&order.data), order.validation.as_ref().map(read).transpose()) {
            (Ok(data), Ok(validation)) => (data, validation),
            (Err(mut all), other) => {
                all.extend(other.err().unwrap_or_default());
                return Err(Refused::Data(all));
            }
            (_, Err(all)) => return Err(Refused::Data(all)),
        };
        let (data, validation) = match order.share {
            Some(_) if data.examples.len() < 2 => {
                return Err(Refused::Line(
                    "one example cannot be split into training and validation data".into(),
                ));
            }
            Some(share) => {
                let (data, held) = data.split(share, order.recipe.seed);
                (data, Some(held))
            }
            None => (data, validation),
        };
        let settings = order.recipe.settings(&file, &spec, order.now);
        Ok(Read { spec, tokenizer, data, validation, settings })
    }
}

/// What a run takes, and why it does not fit, where it does not.
fn memory(
    model: &Model,
    shared: bool,
    read: &Read,
) -> std::result::Result<(TrainPlan, Option<String>), Refused> {
    let gpu = model.gpu();
    let pools = gpu.memory();
    let weights = pools.pools.get(&weft_runtime::Pool::Weights).map_or(0, |p| p.allocated);
    let options = read.settings.train_options(&read.data, read.validation.as_ref());
    let plan =
        TrainPlan::of(&read.spec, weights, &read.settings.shape, &options, gpu.budget()).map_err(line)?;
    let Some(available) = gpu.caps().memory else { return Ok((plan, None)) };
    // What a model that was opened for this alone takes is in memory already, too.
    let taken = pools.allocated();
    let more = plan.total() - plan.weights;
    if taken + more <= available {
        return Ok((plan, None));
    }
    let free = available.saturating_sub(taken);
    let shape = &read.settings.shape;
    let context = read.settings.context;
    // What was allowed to take more than there is needs no smaller batch, which takes long to look for.
    let with_less = match options.checkpointing {
        Checkpointing::Within(_) => {
            let least = TrainOptions { checkpointing: Checkpointing::Every, ..options };
            let least = TrainPlan::of(&read.spec, weights, shape, &least, gpu.budget()).map_err(line)?;
            least.total() - least.weights <= free
        }
        Checkpointing::Every | Checkpointing::Never => false,
    };
    let way_out = if with_less {
        format!("with \"memory\" {} or less it would fit", free + plan.weights)
    } else {
        match TrainPlan::largest_fitting(&read.spec, 0, shape, &options, gpu.budget(), context, free) {
            Some((batch, context)) => format!("a batch of {batch} with a context of {context} would fit"),
            None => "not even a batch of 16 tokens fits".into(),
        }
    };
    let beside = if shared { "beside the models that answer " } else { "" };
    let why = format!(
        "training takes {} and {beside}{} of {} are free on {}; {way_out}",
        human(more),
        human(free),
        human(available),
        gpu.caps().name
    );
    Ok((plan, Some(why)))
}

impl Tuner for Bases {
    fn bases(&self) -> Vec<String> {
        let mut all: Vec<String> = self.open.iter().map(|b| b.name.clone()).collect();
        for name in self.folder.iter().flat_map(Folder::all) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    fn plan(&self, order: &Order, measure: bool) -> std::result::Result<Plan, Refused> {
        let flag = self.flag(&order.base).map_err(Refused::Line)?;
        let read = self.read(order, &flag)?;
        let plain = |e: &dyn Display| line(self.plain(&order.base, &flag, e));
        let (model, shared) = self.model(&order.base, &flag).map_err(|e| plain(&e))?;
        let (plan, no_room) = memory(&model, shared, &read)?;
        let step_seconds = match measure && no_room.is_none() {
            true => {
                let took = finetune::measure(&model, &read.settings, &read.data, read.validation.as_ref());
                Some(took.map_err(|e| plain(&e))?)
            }
            false => None,
        };
        let steps = read.settings.steps(&read.data);
        Ok(Plan {
            batch: read.data.first_batch(&read.settings, &read.tokenizer),
            steps,
            tokens: read.settings.tokens(&read.data),
            memory: plan,
            shared,
            taken: model.gpu().memory().allocated(),
            available: model.gpu().caps().memory,
            no_room,
            step_seconds,
            counts: read.data.counts,
            validation: read.validation.map(|v| v.counts),
        })
    }

    fn run(
        &self,
        order: &Order,
        folder: &Path,
        stop: &Stop,
        each: &mut dyn FnMut(Told),
    ) -> std::result::Result<State, String> {
        let flag = self.flag(&order.base)?;
        let plain = |e: &dyn Display| {
            self.plain(&order.base, &flag, e).replace(&folder.display().to_string(), "the job's folder")
        };
        let read = self.read(order, &flag).map_err(|refused| match refused {
            Refused::Line(line) => line,
            Refused::Data(all) => all.first().map(|p| p.what.clone()).unwrap_or_default(),
        })?;
        let (model, shared) = self.model(&order.base, &flag).map_err(|e| plain(&e))?;
        if let Ok((_, Some(why))) = memory(&model, shared, &read) {
            return Err(why);
        }
        let steps = read.settings.steps(&read.data);
        let saving = Saving {
            every: order.save_every.unwrap_or((steps / 20).clamp(1, 100)),
            eval_every: order.eval_every,
            base_name: read.spec.name.clone().unwrap_or_else(|| order.base.clone()),
            ..Saving::new(folder)
        };
        let run = Finetune::new(&model, None, read.settings, read.data, read.validation, saving);
        let mut run = run.map_err(|e| plain(&e))?;
        if finetune::has_checkpoint(folder) {
            run.resume(folder).map_err(|e| plain(&e))?;
        }
        each(Told::Ready { steps: run.steps(), done: run.done() });
        let handle = run.handle();
        if stop.asked() {
            handle.cancel();
        }
        let ended = run.run(&mut |event| {
            if stop.asked() {
                handle.cancel();
            }
            each(Told::Event(event));
        });
        ended.map_err(|e| plain(&e))
    }

    fn open(
        &self,
        base: &str,
        name: &str,
        adapter: &Path,
    ) -> std::result::Result<weft_server::Opened, Unopened> {
        let flag = self.flag(base)?;
        let plain = |e: Error| {
            let may_pass = open::may_pass(&e);
            let why = self.plain(base, &flag, e).replace(&adapter.display().to_string(), "its adapter");
            Unopened { why, may_pass }
        };
        let model = match self.open.iter().find(|b| b.name == base) {
            Some(open) => open.model.clone(),
            None => flag.open(&self.flags.device, None, self.flags.c, self.flags.cache).map_err(plain)?.0,
        };
        let lora = LoraFlag { lora: vec![adapter.display().to_string()] };
        let limits = self.flags.config().map_err(plain)?.limits;
        // Each answer takes a cache of its own, beside those of the base.
        let slots = Some(self.flags.slots.unwrap_or(4).min(4));
        let flags = Flags { slots, draft_model: None, ..self.flags.clone() };
        let opened = Opened::adapted(name, flag.clone(), lora, model);
        let started = opened.start(&flags, limits).map_err(plain)?;
        crate::output::note(&started.line);
        Ok((started.served, started.worker))
    }
}
