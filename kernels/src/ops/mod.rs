//! The ops. Each is a folder; `registry` lists them with their cases.

pub mod activation;
pub mod adamw;
pub mod add;
pub mod attention;
pub mod cast;
pub mod cross_entropy;
pub mod dropout;
pub mod embed;
pub mod experts;
pub mod gather;
pub mod glu;
pub mod hadamard;
pub mod imatrix;
pub mod layernorm;
pub mod lora;
pub mod matmul;
pub mod pooling;
pub mod qk_norm_rope;
pub mod quantize;
pub mod rmsnorm;
pub mod rope;
pub mod router;
pub mod sample;
pub mod softcap;
pub mod split_k;
pub mod strengths;
pub mod tile;

pub use crate::layout::Format;
use crate::{Weight, WeightType};
use weft_runtime::Access;

/// The bindings every kernel with a quantised matrix begins with: the slab as vec4 and as words.
const WEIGHT: [Access; 2] = [Access::Read, Access::Read];

/// How fragments read four words of a slab.
const LOAD4: &str = include_str!("../types/load4.wgsl");

/// The fragments that a kernel over `ty` needs, with the kernel itself last.
fn with_dequant(ty: WeightType, kernel: &str) -> Vec<&str> {
    ty.layout().dequant.iter().copied().chain([LOAD4, ty.book(), kernel]).collect()
}

/// The two operands of a slab: the same slice, once for each view.
fn slab_operands(w: &Weight, slab: usize) -> [&weft_runtime::Slice; 2] {
    [&w.slices[slab], &w.slices[slab]]
}
