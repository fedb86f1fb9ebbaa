//! Causal attention over the KV cache: `kernel.wgsl` (a few rows, f32), `tiled.wgsl` (prefill, f32 in register
//! tiles) and `coop.wgsl` (prefill, cooperative matrices) compute splits, `combine.wgsl` merges them where there are
//! several ([`forward`]). [`decode`] has a step of one token in one dispatch, [`train`] attention within a training
//! batch and [`backward`] its gradients.

pub mod backward;
pub mod cases;
pub mod decode;
pub mod forward;
mod kernel;
mod plan;
pub mod reference;
mod shape;
pub mod train;

use weft_runtime::Shader;

use crate::Fields;
pub use crate::layout::{CacheShape, CacheType, Sequences};
pub use forward::Attention;
pub use kernel::Variant;
pub use plan::{CombineParams, Params, plan, plan_combine};
pub use shape::{Mask, Scratch, Shape};

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [kernel::shaders(), forward::shaders(), decode::shaders(), backward::shaders()].concat()
}
