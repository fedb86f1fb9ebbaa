//! A GPU, honestly described: what it can do, how much of it we may use, its memory, its pipelines,
//! and programs of dispatches that are recorded once and replayed.
//!
//! The crate knows wgpu and nothing above it: no op, no model, no file. It never prints and never
//! aborts: a lost device, a full memory and a rejected shader are values of [`Error`].
//!
//! Three ideas carry everything else.
//!
//! * [`Caps`] is what the adapter offers, [`Budget`] is what we allow ourselves. A [`Profile`] lowers
//!   the budget by opening the device with exactly those limits, so that wgpu itself refuses what a
//!   phone would refuse.
//! * Memory is few large blocks, cut into [`Slice`]s at the binding alignment, in [`Pool`]s that are
//!   counted apart ([`Gpu::memory`]).
//! * A [`Program`] is a list of dispatches with their bind groups. All that changes from one replay to
//!   the next lives in GPU buffers, so that a replay patches nothing and several can be in flight.
//!
//! Blocking and async: [`Gpu::open`] and [`Gpu::read`] are `async`; on the web they are the only way.
//! Natively `pollster::block_on` drives them, and [`Gpu::run`] itself never waits for the GPU except
//! to keep the queue bounded.

mod arena;
#[cfg(not(target_arch = "wasm32"))]
mod barriers;
mod budget;
mod cache;
mod caps;
mod clock;
mod compile;
mod error;
mod gpu;
mod measure;
mod memory;
mod pipeline;
mod pool;
mod program;
mod readback;
mod slice;
mod staging;
#[cfg(target_os = "linux")]
mod texels;
#[cfg(not(target_os = "linux"))]
#[path = "no_texels.rs"]
mod texels;
mod timestamps;
mod transfer;
mod tuning;

pub use arena::{Arena, Layout, TensorId};
pub use budget::{Budget, Profile};
pub use cache::default_cache;
pub use caps::{AdapterSummary, Caps, Coop, DeviceKind, Without, adapters};
pub use clock::Stopwatch;
pub use error::{Error, Result};
pub use gpu::{Emulation, Gpu, Options};
pub use measure::{Replay, Span};
pub use pipeline::{Access, Compiled, Pipeline, Shader};
pub use pool::{Pool, human};
pub use program::{Cost, Program, Recorder, Submission};
pub use readback::{Readback, Wait};
pub use slice::{MemoryReport, PoolReport, Slice};
pub use staging::Staging;
pub use transfer::{Moved, Transfer};
pub use tuning::{Tuned, Tuning};
