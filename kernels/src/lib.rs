//! Every op of a decoder: its WGSL, how it splits under a budget, its double-precision reference and
//! its cases.
//!
//! One op, one folder under `ops/`: `kernel.wgsl` opens with the formula and the shape of each
//! binding; `mod.rs` has the parameters, the plan and the recording; `reference.rs` plain loops with
//! f64 accumulators; `cases.rs` the shapes it is tried on, in the vocabulary of [`testing`]. [`registry`] lists them
//! all.
//!
//! Conventions.
//! * A plan is a pure function of shape and [`Budget`]: a list of dispatches, each with the sub-ranges
//!   it binds. Splitting copies nothing.
//! * `@binding(0)` is the uniform `p` with the parameters. Activations are bound `read_write` even
//!   where they are only read, because wgpu tracks a buffer as a whole and activations share one;
//!   weights, KV cache and state come from other pools and are bound `read`.
//! * Matrices are row-major, activations f32 `[tokens, columns]`, weights `[rows, columns]` with the
//!   product `y[t, r] = Σ_c x[t, c] w[r, c]`.
//! * Numbers that vary reach the shader as `const` lines in front of it ([`compose`]); what changes
//!   code is a fragment.

mod compose;
mod coop;
mod device;
mod error;
mod pattern;
mod plan;
mod types;
mod weight;

pub mod drivers;
pub mod layout;
pub mod ops;
pub mod perf;
pub mod registry;
pub mod select;
pub mod testing;
pub mod tuning;

pub use compose::compose;
pub use device::open;
pub use error::{Error, PlanError, Result};
pub use pattern::Pattern;
pub(crate) use plan::params;
pub use plan::{Bind, Dispatch, Fields, fold, record, split_rows};
pub use types::{Layout, WeightType};
pub use weft_runtime::Budget;
pub use weight::{Cut, Feed, Piece, Slab, Weight, WeightShape, fill};
