//! What the cases of the ops are made of: inputs from a seed, guarded outputs, the comparison with a reference in
//! f64, and what runs them.
//!
//! A case makes its inputs from a seed, runs the op on a device under that device's budget, and
//! compares with a reference in f64. Inputs carry planted outliers, because uniform noise hides an
//! unstable softmax or a norm that overflows; outputs are poisoned with NaN first and followed by
//! sentinels that must survive.

mod blocks;
mod cache;
mod case;
mod gradients;
mod guarded;
mod inputs;
mod run;
mod weights;

pub(crate) use blocks::{Blocks, MIXED};
pub(crate) use cache::{cache_on_gpu, chunk_bytes, chunk_values, decode_cache, encode_cache, spans};
pub use case::{Case, Cell, Oracle, Outcome, each_cell, each_kind, first_of_kinds, quick, shaders_of_kinds};
#[cfg(test)]
pub(crate) use gradients::assert_gradient;
pub(crate) use gradients::{Gradient, Gradients};
pub use guarded::nmse;
pub(crate) use guarded::{Guarded, input};
pub use inputs::Rng;
pub use run::{Ran, devices, run_all};
#[cfg(test)]
pub(crate) use weights::put_scales;
pub use weights::random_blocks;
pub(crate) use weights::{random_weight, weight_of};
