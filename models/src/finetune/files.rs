//! The folder of a run: checkpoints, metrics, the loss curve. Each appears whole or not at all.
//!
//! ```text
//! checkpoint-00000120/     adapter.gguf, state.safetensors, run.json
//! metrics.jsonl            an object a step
//! loss.svg
//! adapter.gguf, adapter_model.safetensors, adapter_config.json
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value as Json, json};
use weft_formats::adapter::{Adapter as AdapterFile, Base, Pair as FilePair};
use weft_formats::{AtomicFile, read_regular};

use super::curve::Point;
use crate::train::{Adapter, Pair, Target, TrainState};
use crate::{Error, Result, Spec};

const PREFIX: &str = "checkpoint-";
const METRICS: &str = "metrics.jsonl";

fn failed(path: &Path, e: &std::io::Error) -> Error {
    let text = e.to_string();
    let cause = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    Error::Finetune { what: format!("{}: {cause}", path.display()) }
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Finetune { what: format!("{}: {why}", path.display()) }
}

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub(super) step: u64,
    /// Steps of them in which nothing was learnt.
    pub(super) skipped: u64,
    pub(super) epoch: u64,
    /// Batches of the epoch that are done.
    pub(super) batch: u64,
    pub(super) options: Map<String, Json>,
}

/// The folder.
pub(super) struct Folder {
    path: PathBuf,
    /// Held while this run is there, so that no other writes into the folder.
    lock: Option<std::fs::File>,
    metrics: Option<std::fs::File>,
    pub(super) history: Vec<Point>,
}

impl Folder {
    /// Makes the folder, or takes one that holds no run.
    pub(super) fn create(path: &Path) -> Result<Folder> {
        if path.exists() && !path.is_dir() {
            return Err(broken(path, "is not a folder"));
        }
        std::fs::create_dir_all(path).map_err(|e| failed(path, &e))?;
        Ok(Folder { path: path.to_owned(), lock: None, metrics: None, history: Vec::new() })
    }

    /// Starts a new run's metrics.
    pub(super) fn begin(&mut self) -> Result<()> {
        check_free(&self.path)?;
        self.lock = lock(&self.path)?;
        self.tidy();
        self.metrics(Vec::new())
    }

    /// Lets other runs have the folder: this one has ended.
    pub(super) fn release(&mut self) {
        self.lock = None;
    }

    /// Whether a checkpoint is one of this folder's.
    pub(super) fn holds(&self, checkpoint: &Path) -> bool {
        let of = checkpoint.canonicalize().ok();
        of.as_deref().and_then(Path::parent) == self.path.canonicalize().ok().as_deref()
    }

    /// Goes on with a run's metrics: what was measured after `step` is forgotten.
    pub(super) fn resume(&mut self, step: u64) -> Result<()> {
        self.lock = lock(&self.path)?;
        self.tidy();
        let text = read_regular(&self.path.join(METRICS)).unwrap_or_default();
        let mut kept = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            // A line may be cut off where the process was killed.
            let Ok(Json::Object(m)) = serde_json::from_str(line) else { break };
            let Some(at) = m.get("step").and_then(Json::as_u64).filter(|s| *s <= step) else { break };
            let number = |key: &str| m.get(key).and_then(Json::as_f64);
            self.history.push(Point {
                step: at,
                loss: number("loss").unwrap_or(f64::NAN),
                val: number("val_loss"),
            });
            kept.push(line.to_owned());
        }
        self.metrics(kept)
    }

    fn metrics(&mut self, lines: Vec<String>) -> Result<()> {
        let path = self.path.join(METRICS);
        let text: String = lines.into_iter().map(|l| l + "\n").collect();
        whole(&path, text.as_bytes())?;
        let file = std::fs::OpenOptions::new().append(true).open(&path).map_err(|e| failed(&path, &e))?;
        self.metrics = Some(file);
        Ok(())
    }

    /// Adds a line.
    pub(super) fn measure(&mut self, point: Point, line: &Json) -> Result<()> {
        self.history.push(point);
        let path = self.path.join(METRICS);
        match &mut self.metrics {
            Some(file) => file.write_all(format!("{line}\n").as_bytes()).map_err(|e| failed(&path, &e)),
            None => Ok(()),
        }
    }

    /// Draws the curve.
    pub(super) fn draw(&self) -> Result<()> {
        whole(&self.path.join("loss.svg"), super::curve::svg(&self.history).as_bytes())
    }

    /// The adapter as other tools take it.
    pub(super) fn adapter(&self, adapter: &AdapterFile, base: &Base, model: &str) -> Result<()> {
        adapter.write_gguf(&self.path.join("adapter.gguf"), base, "adapter")?;
        Ok(adapter.write_peft(&self.path, base, model)?)
    }

    /// Steps and folders of the checkpoints, the last one last.
    pub(super) fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>> {
        checkpoints(&self.path)
    }

    /// Writes a checkpoint.
    pub(super) fn save(
        &self,
        place: &Place,
        state: &TrainState,
        adapter: &AdapterFile,
        base: &Base,
    ) -> Result<PathBuf> {
        let name = format!("{PREFIX}{:08}", place.step);
        let path = self.path.join(&name);
        let temporary = self.path.join(format!(".{name}.{}.part", std::process::id()));
        let _ = std::fs::remove_dir_all(&temporary);
        let written = (|| {
            std::fs::create_dir(&temporary).map_err(|e| failed(&path, &e))?;
            // An error has the name that the file would have got.
            let shown = |p: &Path| p.display().to_string();
            adapter.write_gguf(&temporary.join("adapter.gguf"), base, "adapter").map_err(|e| {
                Error::Finetune { what: e.to_string().replace(&shown(&temporary), &shown(&path)) }
            })?;
            let bytes = state_bytes(state).map_err(|e| broken(&path, e))?;
            std::fs::write(temporary.join("state.safetensors"), bytes).map_err(|e| failed(&path, &e))?;
            let run = json!({
                "version": 1,
                "step": place.step,
                "skipped": place.skipped,
                "epoch": place.epoch,
                "batch": place.batch,
                "options": place.options,
            });
            std::fs::write(temporary.join("run.json"), format!("{run:#}\n"))
                .map_err(|e| failed(&path, &e))?;
            let sync = |p: &Path| std::fs::File::open(p).and_then(|f| f.sync_all());
            for file in ["adapter.gguf", "state.safetensors", "run.json"] {
                sync(&temporary.join(file)).map_err(|e| failed(&path, &e))?;
            }
            // Folders cannot be opened for this everywhere; the rename is atomic all the same.
            let _ = sync(&temporary);
            if path.exists() {
                // A run that was resumed from an older one comes by here again.
                self.remove(&path);
            }
            std::fs::rename(&temporary, &path).map_err(|e| failed(&path, &e))?;
            let _ = sync(&self.path);
            Ok(())
        })();
        if let Err(e) = written {
            let _ = std::fs::remove_dir_all(&temporary);
            return Err(e);
        }
        Ok(path)
    }

    /// Removes all checkpoints but the last `keep`.
    pub(super) fn prune(&self, keep: usize) -> Result<()> {
        let all = self.checkpoints()?;
        let old = all.len().saturating_sub(keep.max(1));
        all[..old].iter().for_each(|(_, p)| self.remove(p));
        Ok(())
    }

    /// Removes a folder; under another name first, so that what is half removed is no checkpoint.
    fn remove(&self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = self.path.join(format!(".{name}.{}.part", std::process::id()));
        let _ = std::fs::remove_dir_all(&hidden);
        if std::fs::rename(path, &hidden).is_ok() {
            let _ = std::fs::remove_dir_all(&hidden);
        }
    }

    /// Removes what a process that was killed left of checkpoints.
    fn tidy(&self) {
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.strip_prefix('.').is_some_and(|n| n.starts_with(PREFIX)) && name.ends_with(".part") {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Locks a folder until the file is closed, which the system does where a process is killed.
fn lock(folder: &Path) -> Result<Option<std::fs::File>> {
    let path = folder.join(".lock");
    if path.exists() && !path.is_file() {
        return Err(broken(&path, "is not a regular file"));
    }
    let file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| failed(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(broken(folder, "another process is training there; wait for it, or give another folder"))
        }
        // There are file systems without locks.
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// Refuses a folder that holds a run to go on with, or files that a run would write over. One that was killed
/// before its first checkpoint is none.
///
/// # Errors
/// It does.
pub fn check_free(folder: &Path) -> Result<()> {
    let metrics = folder.join(METRICS);
    let head = read_regular(&metrics).ok();
    const FIRST: &[u8] = b"{\"step\"";
    // A process that is killed may leave a part of its first line.
    let run = head.as_ref().is_some_and(|h| h.starts_with(FIRST) || FIRST.starts_with(h));
    let adapter = run && folder.join("adapter.gguf").exists();
    if adapter || checkpoints(folder).is_ok_and(|c| !c.is_empty()) {
        let way_out = "go on with it by --resume, or give another folder";
        return Err(broken(folder, format!("holds a run already; {way_out}")));
    }
    let written = [METRICS, "loss.svg", "adapter.gguf", "adapter_model.safetensors", "adapter_config.json"];
    match written.into_iter().map(|name| folder.join(name)).find(|p| !run && p.exists()) {
        Some(file) => Err(broken(&file, "is there already, and of no run; give another folder")),
        None => Ok(()),
    }
}

/// Steps and folders of the checkpoints in `folder`, the last one last.
fn checkpoints(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = std::fs::read_dir(folder).map_err(|e| failed(folder, &e))?;
    let mut all: Vec<_> = entries
        .flatten()
        .filter_map(|e| {
            let step = e.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
            Some((step, e.path()))
        })
        .collect();
    all.sort();
    Ok(all)
}

/// The checkpoint that `path` means: itself, or the last of a run's folder.
pub(super) fn find(path: &Path) -> Result<PathBuf> {
    if path.join("run.json").is_file() {
        return Ok(path.to_owned());
    }
    if !path.is_dir() {
        return Err(broken(path, "no such folder"));
    }
    match checkpoints(path)?.pop() {
        Some((_, path)) => Ok(path),
        None if path.join(METRICS).exists() => Err(broken(
            path,
            "holds a run that ended before its first checkpoint; start it again, without --resume",
        )),
        None => Err(broken(path, "holds no checkpoint")),
    }
}

/// Reads where a checkpoint is and how it was made.
pub(super) fn place(path: &Path) -> Result<Place> {
    let file = path.join("run.json");
    let text = read_regular(&file).map_err(|e| failed(&file, &e))?;
    let json: Json = serde_json::from_slice(&text).map_err(|e| broken(&file, format!("not JSON ({e})")))?;
    if json["version"].as_u64() != Some(1) {
        return Err(broken(&file, format!("is of version {}; this reader knows 1", json["version"])));
    }
    let number = |key: &str| json[key].as_u64().ok_or_else(|| broken(&file, format!("has no {key}")));
    let options = json["options"].as_object().ok_or_else(|| broken(&file, "has no options"))?;
    let step = number("step")?;
    // Runs of before have none.
    let skipped = if json["skipped"].is_null() { 0 } else { number("skipped")? };
    if skipped > step {
        return Err(broken(&file, format!("has {skipped} of {step} steps skipped")));
    }
    Ok(Place { step, skipped, epoch: number("epoch")?, batch: number("batch")?, options: options.clone() })
}

/// Reads a checkpoint's parameters and moments.
pub(super) fn state(path: &Path, step: u64) -> Result<TrainState> {
    let file = path.join("state.safetensors");
    let bytes = read_regular(&file).map_err(|e| failed(&file, &e))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| broken(&file, format!("not a safetensors file ({e})")))?;
    let tensor = |name: &str| match tensors.tensor(name) {
        Ok(t) if t.dtype() == Dtype::F32 => {
            Ok(t.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        }
        _ => Err(broken(&file, format!("has no F32 tensor {name:?}"))),
    };
    Ok(TrainState { step, parameters: tensor("parameters")?, m: tensor("m")?, v: tensor("v")? })
}

fn state_bytes(state: &TrainState) -> std::result::Result<Vec<u8>, safetensors::SafeTensorError> {
    let parts = [("parameters", &state.parameters), ("m", &state.m), ("v", &state.v)]
        .map(|(name, v)| (name, v.len(), v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
    let mut views = Vec::new();
    for (name, n, bytes) in &parts {
        views.push((*name, TensorView::new(Dtype::F32, vec![*n], bytes)?));
    }
    safetensors::serialize(views, None)
}

/// A file that appears whole or not at all.
fn whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path).map_err(|e| Error::Finetune { what: e.to_string() })?;
    file.write_all(bytes).map_err(|e| failed(path, &e))?;
    file.finish().map_err(|e| Error::Finetune { what: e.to_string() })
}

/// The adapter as files have it.
pub fn to_file(adapter: &Adapter, spec: &Spec) -> AdapterFile {
    let pair = |p: &Pair| FilePair {
        tensor: p.target.tensor(p.layer),
        rank: adapter.rank as usize,
        rows: p.target.outputs(spec) as usize,
        cols: p.target.inputs(spec) as usize,
        a: p.a.clone(),
        b: p.b.clone(),
    };
    let pairs = adapter.pairs.iter().map(pair).collect();
    AdapterFile { alpha: adapter.alpha, rslora: adapter.rslora, pairs }
}

/// A file's adapter to train on.
///
/// # Errors
/// Ranks that differ from matrix to matrix; a matrix that is not trained here.
pub fn from_file(file: &AdapterFile) -> Result<Adapter> {
    let rank = file.pairs.first().map_or(0, |p| p.rank);
    let mut pairs = Vec::new();
    for p in &file.pairs {
        if p.rank != rank {
            let what =
                format!("its rank is {rank} at {} and {} at {}", file.pairs[0].tensor, p.rank, p.tensor);
            return Err(Error::Adapter { what: format!("{what}; only one rank can be trained") });
        }
        let layer = p.tensor.strip_prefix("blk.").and_then(|t| t.split('.').next()?.parse().ok());
        let site = layer.and_then(|l| Some((l, Target::ALL.into_iter().find(|t| t.tensor(l) == p.tensor)?)));
        let Some((layer, target)) = site else {
            return Err(Error::Adapter { what: format!("it adapts {}, which is not trained", p.tensor) });
        };
        pairs.push(Pair { layer, target, a: p.a.clone(), b: p.b.clone() });
    }
    // An alpha of 0 is a scale of 1.
    let alpha =
        if file.alpha == 0.0 { file.pairs.first().map_or(1.0, |p| p.rank as f32) } else { file.alpha };
    let rslora = file.rslora && file.alpha != 0.0;
    Ok(Adapter { rank: rank as u32, alpha, rslora, pairs })
}
