//! What does the work of `/v1/tasks` for `weft serve`: the code of `weft inspect`, `quantize`, `merge`,
//! `kernels`, `tune` and `bench`.

use std::path::PathBuf;

use serde_json::{Value, json};
use weft_formats::gguf::File;
use weft_formats::recipe::Recipe;
use weft_kernels::ops::attention::CacheType;
use weft_models::Spec;
use weft_runtime::{Budget, Caps, human};
use weft_server::Each;
use weft_server::tasks::{Doer, Room, Task};
use weft_server::tuning::Stop;

use super::open::slots;
use super::tuning::Bases;
use crate::cmd::pull::store_of;
use crate::cmd::{bench, inspect, kernels, merge, quantize, tune};
use crate::options::{CacheFlag, context};
use crate::{Error, Result};

type Told<T> = std::result::Result<T, String>;

/// Endings of names that say a type, which a new type takes the place of.
const ENDINGS: [&str; 4] = ["-f32", "-f16", "-bf16", "-q8_0"];

/// What a model is called without the type at the end of its name.
fn bare(name: &str) -> &str {
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.iter().find(|e| lower.ends_with(*e) || lower.ends_with(&e.replace('-', ".")));
    ending.map_or(name, |e| &name[..name.len() - e.len()])
}

/// The steps of a piece of work; ends it where `stop` was asked.
fn steps<'a>(stop: &'a Stop, each: Each<'a>) -> impl FnMut(&str, u64, u64) -> Result<()> + 'a {
    let mut done = 0;
    move |what, n, total| {
        done += n;
        each(done, total, what);
        if stop.asked() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

fn plain(done: Result<Value>) -> Told<Value> {
    done.map_err(|e| e.to_string())
}

impl Bases {
    /// The device that models run on here, and what those that are open take of it.
    fn device(&self) -> Result<(Caps, Budget, u64)> {
        let taken = self.open.iter().map(|b| b.model.gpu().memory().allocated()).sum();
        if let Some(open) = self.open.first() {
            let gpu = open.model.gpu();
            return Ok((gpu.caps().clone(), gpu.budget().clone(), taken));
        }
        let gpu = pollster::block_on(weft_kernels::open(&self.flags.device.options()?))?;
        Ok((gpu.caps().clone(), gpu.budget().clone(), taken))
    }

    fn memory_of(&self, file: &File, room: &Room) -> Result<Value> {
        let spec = Spec::read(file)?;
        let (caps, budget, taken) = self.device()?;
        let asked = room.cache.as_deref().map(|name| {
            let known = || CacheType::ALL.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
            CacheType::parse(name)
                .ok_or_else(|| Error::input(format!("there is no cache {name:?}; known: {}", known())))
        });
        let cache = CacheFlag { cache_type: asked.transpose()?.or(self.flags.cache.cache_type) };
        let context = room.context.unwrap_or_else(|| context(&spec, self.flags.c));
        let slots = room.slots.unwrap_or_else(|| slots(&self.flags, caps.kind));
        let slots = spec.out.pooling.is_none().then_some(slots);
        let (plan, _) = inspect::memory(file, &spec, (context, slots), cache, (&caps, &budget))?;
        Ok(json!({
            "object": "memory.plan",
            "model": room.model,
            "context": context,
            "trained": spec.context,
            "slots": slots,
            "weights": plan.weights,
            "cache": plan.kv_cache,
            "activations": plan.activations,
            "state": plan.state,
            "total": plan.total(),
            "device": caps.name,
            "available": caps.memory,
            "taken": taken,
            "open": self.open.iter().any(|b| b.name == room.model),
            "fits": caps.memory.map(|memory| plan.total() <= memory.saturating_sub(taken)),
        }))
    }

    fn file_of<T>(&self, model: &str, look: impl FnOnce(&File) -> Result<T>) -> Told<T> {
        let flag = self.flag(model)?;
        let seen = flag.open_file().and_then(|file| look(&file));
        seen.map_err(|e| self.plain(model, &flag, e))
    }

    /// The work of [`Task::Quantize`], whose file appears in the folder once it is whole.
    fn quantizing(&self, model: &str, to: &str, name: &str, again: bool) -> Told<(quantize::Flags, PathBuf)> {
        let flag = self.flag(model)?;
        let input =
            flag.model.ok_or("weft-mini is a part of weft, and no file; its weights are small already")?;
        let store = store_of(self.flags.models.as_deref()).map_err(|e| e.to_string())?;
        let output = store.folder().join(format!("{name}.gguf"));
        if output.exists() {
            return Err(format!("there is a {name}.gguf already; give another name"));
        }
        Ok((quantize::Flags::of(input, output.clone(), to, again), output))
    }

    /// An error of a piece of work without the paths of its files.
    fn hidden(&self, model: &str, output: &std::path::Path, name: &str, e: &Error) -> String {
        let line = self.flag(model).map_or_else(|_| e.to_string(), |flag| self.plain(model, &flag, e));
        line.replace(&output.display().to_string(), name)
    }

    fn bench(&self, model: &str, stop: &Stop, each: Each<'_>) -> Told<Value> {
        let flag = self.flag(model)?;
        let open = match self.open.iter().find(|b| b.name == model) {
            Some(open) => Ok(open.model.clone()),
            None => flag.open(&self.flags.device, None, None, self.flags.cache).map(|opened| opened.0),
        };
        let rows = open.and_then(|m| bench::of(&m, model, &mut steps(stop, each), &|| stop.asked()));
        rows.map(|rows| json!({ "rows": rows })).map_err(|e| self.plain(model, &flag, e))
    }

    fn merge(&self, task: (&str, &str, &PathBuf, &PathBuf), stop: &Stop, each: Each<'_>) -> Told<Value> {
        let (base, name, adapter, to) = task;
        let lora = adapter.display().to_string();
        let flags = merge::Flags::of(self.flag(base)?, lora.clone(), to.clone());
        let size = flags.work(&mut steps(stop, each));
        let size = size.map_err(|e| self.hidden(base, to, name, &e).replace(&lora, "its adapter"))?;
        Ok(json!({ "bytes": size, "file": "merged.gguf" }))
    }
}

impl Doer for Bases {
    fn kinds(&self) -> Vec<&'static str> {
        let mut all = vec!["kernels", "roofline", "bench"];
        // What is kept for later starts is for programs of this computer.
        if self.flags.host.is_loopback() {
            all.push("tune");
        }
        if self.flags.allow_quantize {
            all.push("quantize");
        }
        if self.flags.jobs.is_some() {
            all.push("merge");
        }
        all
    }

    fn models(&self) -> Vec<String> {
        use weft_server::tuning::Tuner;
        self.bases()
    }

    fn memory(&self, room: &Room) -> Told<Value> {
        self.file_of(&room.model, |file| self.memory_of(file, room))
    }

    fn sizes(&self, model: &str) -> Told<Value> {
        self.file_of(model, |file| {
            let (own, quantised) = quantize::own_type(file);
            let one = |s: quantize::Size| {
                json!({ "type": s.name, "bytes": s.bytes, "bits": s.bits, "needs_importance": s.needs_importance })
            };
            Ok(json!({
                "object": "model.sizes", "model": model, "name": bare(model), "bytes": file.size(), "type": own,
                "quantised": quantised, "types": quantize::sizes(file)?.into_iter().map(one).collect::<Vec<_>>(),
            }))
        })
    }

    fn check(&self, task: &Task) -> Told<()> {
        let Task::Quantize { model, to, name, again } = task else { return Ok(()) };
        let (flags, output) = self.quantizing(model, to, name, *again)?;
        if Recipe::parse(to).is_none() {
            return Err(format!("there is no type \"{to}\"; POST /v1/sizes lists those that there are"));
        }
        if !again && self.file_of(model, |file| Ok(quantize::own_type(file).1))? {
            return Err(format!(
                "{model} is quantised already, and doing it again costs quality: take its F16 or BF16 file, or allow it \
                 by \"requantize\""
            ));
        }
        let size = flags.check().map_err(|e| self.hidden(model, &output, name, &e))?;
        match output.parent().and_then(weft_hub::free) {
            Some(free) if free < size => {
                Err(format!("{name} takes {}, and {} are free on the disk", human(size), human(free)))
            }
            _ => Ok(()),
        }
    }

    fn run(&self, task: &Task, stop: &Stop, each: Each<'_>) -> Told<Value> {
        match task {
            Task::Quantize { model, to, name, again } => {
                let (flags, output) = self.quantizing(model, to, name, *again)?;
                let sizes = flags.work(&mut steps(stop, each));
                let (before, after) = sizes.map_err(|e| self.hidden(model, &output, name, &e))?;
                Ok(json!({ "bytes_before": before, "bytes": after }))
            }
            Task::Merge { base, name, adapter, to, .. } => self.merge((base, name, adapter, to), stop, each),
            Task::Kernels { thorough } => {
                plain(kernels::tested(&self.flags.device, *thorough, &mut steps(stop, each)))
            }
            Task::Roofline { thorough } => {
                plain(kernels::roofline(&self.flags.device, *thorough, &mut steps(stop, each)))
            }
            Task::Tune { thorough } => {
                let told = &mut steps(stop, each);
                plain(tune::of(&self.flags.device, *thorough, told, &|| stop.asked()))
            }
            Task::Bench { model } => self.bench(model, stop, each),
        }
    }
}
