//! The ops. Each is a folder; `registry` lists them with their cases.

pub mod attention;
pub mod gather;
pub mod heads;
pub mod matmul;
pub mod quantize;
pub mod rmsnorm;
pub mod rope;
pub mod sample;
pub mod swiglu;

use crate::{Weight, WeightType};
use weft_runtime::Access;

/// The bindings every kernel with a quantised matrix begins with: the slab as vec4 and as words.
const WEIGHT: [Access; 2] = [Access::Read, Access::Read];

/// The fragments that a kernel over `ty` needs, with the kernel itself last.
fn with_dequant(ty: WeightType, kernel: &str) -> Vec<&str> {
    ty.layout().dequant.iter().copied().chain([ty.book(), kernel]).collect()
}

/// The two operands of a slab: the same slice, once for each view.
fn slab_operands(w: &Weight, slab: usize) -> [&weft_runtime::Slice; 2] {
    [&w.slices[slab], &w.slices[slab]]
}
