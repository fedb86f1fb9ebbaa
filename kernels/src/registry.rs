//! One table of cases and of shaders for every op: what `weft kernels` and the tests run.

use std::collections::HashSet;

use weft_runtime::{Gpu, Shader};

// The vocabulary that they are made of, under the name it had here.
#[allow(unused_imports)]
pub(crate) use crate::select::BASELINE;
pub use crate::testing::{
    Case, Cell, Oracle, Outcome, Rng, devices, each_cell, nmse, quick, random_blocks, run_all,
};
#[allow(unused_imports)]
pub(crate) use crate::testing::{Gradient, Gradients, Guarded, input, random_weight, weight_of};
use crate::{Fields, WeightType, ops};

/// The cells that no case is for, because the variant never takes the type or the device has no such
/// variant at all, with the reason.
pub fn absent(gpu: &Gpu) -> Vec<(Cell, String)> {
    let there: HashSet<Cell> = cases().iter().map(Case::cell).collect();
    let mut all = Vec::new();
    for variant in ops::matmul::Variant::ALL {
        for &ty in WeightType::ALL {
            let tokens = match variant {
                ops::matmul::Variant::Matvec | ops::matmul::Variant::MatvecDot => 1,
                _ => 64,
            };
            let why = variant.supports(gpu.caps(), ty, tokens).err();
            all.push((("matmul", variant.name(), Some(ty.name())), why));
        }
    }
    for variant in ops::attention::Variant::ALL {
        for ty in ops::attention::CacheType::ALL {
            let cache = ops::attention::CacheShape::new(ty, 64, 1, 64, gpu.budget());
            let why = cache.ok().and_then(|c| variant.supports(gpu.caps(), &c).err());
            all.push((("attention", variant.name(), Some(ty.name())), why));
        }
    }
    all.into_iter()
        .filter(|(cell, _)| !there.contains(cell))
        .map(|(cell, why)| (cell, why.unwrap_or("no case").to_owned()))
        .collect()
}

/// Every case of every op.
pub fn cases() -> Vec<Case> {
    [
        ops::embed::cases::cases(),
        ops::rmsnorm::cases::cases(),
        ops::quantize::cases::cases(),
        ops::matmul::cases::cases(),
        ops::rope::cases::cases(),
        ops::router::cases::cases(),
        ops::experts::cases::cases(),
        ops::qk_norm_rope::cases::cases(),
        ops::attention::cases::cases(),
        ops::glu::cases::cases(),
        ops::activation::cases::cases(),
        ops::tile::cases::cases(),
        ops::layernorm::cases::cases(),
        ops::pooling::cases::cases(),
        ops::softcap::cases::cases(),
        ops::hadamard::cases::cases(),
        ops::cast::cases::cases(),
        ops::dropout::cases::cases(),
        ops::lora::cases::cases(),
        ops::gather::cases::cases(),
        ops::cross_entropy::cases::cases(),
        ops::add::cases::cases(),
        ops::split_k::cases::cases(),
        ops::strengths::cases::cases(),
        ops::adamw::cases::cases(),
        ops::sample::cases::cases(),
        ops::imatrix::cases::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every case of the ops that compute gradients, against differences of the ops whose gradients they are.
pub fn gradients() -> Vec<Case> {
    cases().into_iter().filter_map(Case::by_differences).collect()
}

/// Every shader of every op with the fields of its parameters: what is validated without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [
        ops::embed::shaders(),
        ops::rmsnorm::shaders(),
        ops::quantize::shaders(),
        ops::matmul::shaders(),
        ops::rope::shaders(),
        ops::router::shaders(),
        ops::experts::shaders(),
        ops::qk_norm_rope::shaders(),
        ops::attention::shaders(),
        ops::glu::shaders(),
        ops::activation::shaders(),
        ops::tile::shaders(),
        ops::layernorm::shaders(),
        ops::pooling::shaders(),
        ops::softcap::shaders(),
        ops::hadamard::shaders(),
        ops::cast::shaders(),
        ops::dropout::shaders(),
        ops::lora::shaders(),
        ops::gather::shaders(),
        ops::cross_entropy::shaders(),
        ops::add::shaders(),
        ops::split_k::shaders(),
        ops::strengths::shaders(),
        ops::adamw::shaders(),
        ops::sample::shaders(),
        ops::imatrix::shaders(),
        crate::perf::shaders(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
