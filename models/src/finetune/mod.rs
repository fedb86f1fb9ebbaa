//! Fine-tuning: data to batches, the loop around [`crate::train::Trainer`], checkpoints.
//!
//! ```no_run
//! use weft_models::finetune::{Event, Finetune};
//! # fn main() -> Result<(), weft_models::Error> {
//! # let (model, settings, data, saving): (weft_models::Model, _, _, _) = todo!();
//! let mut run = Finetune::new(&model, None, settings, data, None, saving)?;
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
mod run;
mod settings;
pub mod spans;
#[cfg(test)]
mod tests;

pub use data::{Counts, Data, DataError, Example, Learn, Overlong, Reading};
pub use run::{Event, Finetune, Handle, Optimiser, Saving, State, Step, from_file, to_file};
pub use settings::{Length, Schedule, Settings, Warmup};
