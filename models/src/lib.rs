//! Graphs: a GGUF file becomes weights on a device, a KV cache, and tokens.
//!
//! ```no_run
//! use weft_models::{Message, Model, Options, Sampling};
//!
//! # fn main() -> Result<(), weft_models::Error> {
//! let model = Model::open("model.gguf", &Options::default())?;
//! let prompt = model.chat(&[Message::user("What is 17 + 25?")], None)?;
//! let mut session = model.session(4096)?;
//! let mut answer = session.generate(&prompt, &Sampling::default(), 256)?;
//! while let Some(text) = answer.next_text()? {
//!     print!("{text}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything that waits has an `async` twin ([`Model::open_async`], [`Session::generate_async`],
//! [`Generation::next_async`]); in a browser those are the ones to call. Dropping a [`Generation`]
//! cancels it.

mod arch;

mod embedder;
pub mod engine;
mod error;
pub mod finetune;
mod generate;
mod graph;
mod importance;
mod kv;
mod loading;
mod lora;
mod measure;
mod model;
mod options;
mod plan;
mod sampling;
mod session;
mod sites;
pub mod spec;
mod synthetic;
pub mod train;
mod weights;

pub use arch::SUPPORTED;
pub use embedder::{Embedder, Hidden, Sequence};
pub use error::{Error, Result};
pub use generate::{Generation, Stop};
pub use importance::Importance;
pub use loading::Loading;
pub use lora::{adapter_base, open_adapter};
pub use model::{Model, Opening};
pub use options::{Options, Progress, Source};
pub use plan::{MemoryPlan, plan};
pub use sampling::{Dry, FileSampling, Sampling};
pub use session::{Rows, Session, Taps};
pub use spec::{Pooling, Spec};
pub use synthetic::Synthetic;
pub use weft_formats::adapter::Adapter as AdapterFile;
pub use weft_formats::chat::{Message, Options as ChatOptions};
pub use weft_kernels::ops::attention::CacheType;
pub use weft_runtime::{Options as DeviceOptions, Profile, Without};
