//! Fine-tuning: data to batches, the loop around [`crate::train::Trainer`], checkpoints.
//!
//! ```no_run
//! use std::path::Path;
//! use weft_formats::gguf::File;
//! use weft_models::finetune::{
//!     Data, Event, Finetune, Length, Reading, Saving, Settings, tokenizer_and_template,
//! };
//! use weft_models::{Model, Options};
//!
//! # fn main() -> Result<(), weft_models::Error> {
//! let file = File::open(Path::new("model.gguf"))?;
//! let model = Model::open("model.gguf", &Options::default())?;
//! let (tokenizer, template) = tokenizer_and_template(&file, None)?;
//! let data = Data::read(Path::new("train.jsonl"), &Reading::new(&tokenizer, &template))?;
//! let settings = Settings { length: Length::Epochs(3), ..Settings::new(&file, model.spec()) };
//! let mut run = Finetune::new(&model, None, settings, data, None, Saving::new("tuned"))?;
//! let handle = run.handle(); // pause(), resume(), cancel(), state(): from any thread
//! run.run(&mut |event| {
//!     if let Event::Step(s) = event {
//!         println!("{} of {}: loss {:.3}", s.step, s.steps, s.loss);
//!     }
//! })?;
//! # Ok(())
//! # }
//! ```

mod curve;
mod data;
mod files;
mod handle;
mod preview;
mod recipe;
mod run;
mod settings;
mod skips;
pub mod spans;
#[cfg(test)]
mod tests;

use std::path::Path;

use weft_formats::chat::Template;
use weft_formats::gguf::File;
use weft_formats::tokenizer::Tokenizer;

use crate::{Error, Result};

pub use data::{Counts, Data, DataError, Example, Learn, Overlong, Reading};
pub use files::{check_free, from_file, to_file};
pub use handle::{Handle, State};
pub use preview::{Shown, measure};
pub use recipe::Recipe;
pub use run::{Event, Finetune, Saving, Step, TrainLoop};
pub use settings::{Length, Schedule, Settings, Warmup};
pub use skips::Skips;

/// A file's tokenizer and its chat template, or `template` in place of that.
///
/// # Errors
/// A vocabulary that is missing or not supported; a template that does not parse.
pub fn tokenizer_and_template(file: &File, template: Option<&str>) -> Result<(Tokenizer, Template)> {
    let name = || file.path().display().to_string();
    let metadata = file.metadata();
    let tokenizer =
        Tokenizer::from_metadata(metadata).map_err(|source| Error::Tokenizer { file: name(), source })?;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default().to_owned();
    let (bos, eos) = (text(tokenizer.bos()), text(tokenizer.eos()));
    let template = match template {
        Some(source) => Template::new(source, &bos, &eos),
        None => Template::from_metadata(metadata, &bos, &eos),
    };
    Ok((tokenizer, template.map_err(|source| Error::Template { file: name(), source })?))
}

/// Which model a file is: its name and a hash of its tensors' names, types, shapes and first and last bytes.
pub fn fingerprint(file: &File) -> String {
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        // FNV-1a.
        for b in bytes {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3);
        }
    };
    for t in file.tensors() {
        let size = t.size as usize;
        let ends = size.min(256);
        add(t.name.as_bytes());
        add(t.ty.name().as_bytes());
        t.shape.iter().for_each(|d| add(&d.to_le_bytes()));
        for part in [0..ends, size - ends..size] {
            // A part that cannot be read fails where the file is opened as a model.
            add(&file.read(t, part).unwrap_or_default());
        }
    }
    format!("{} {hash:016x}", file.metadata().str("general.name").unwrap_or("model"))
}

/// When the data of a checkpoint, or of a run's last one, was rendered: [`Settings::now`].
///
/// # Errors
/// There is no checkpoint, or a broken one.
pub fn checkpoint_time(path: &Path) -> Result<i64> {
    let place = files::place(&files::find(path)?)?;
    Ok(place.options.get("now").and_then(serde_json::Value::as_i64).unwrap_or(0))
}

/// Whether a folder holds a checkpoint to go on from.
pub fn has_checkpoint(folder: &Path) -> bool {
    files::find(folder).is_ok()
}
