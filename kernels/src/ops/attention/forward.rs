//! Records an attention over a cache.

use weft_runtime::{Access, Recorder, Shader, Slice};

use super::kernel::{Keys, Variant};
use super::plan::{CombineParams, plan, plan_combine};
use super::shape::{Scratch, Shape};
use crate::layout::{CacheShape, Sequences};
use crate::{Fields, Result, compose, record};

pub(super) fn combine_shader() -> Shader {
    Shader {
        name: "attention_combine_f32".into(),
        source: compose(&[], &[], &[include_str!("combine.wgsl")]),
        bindings: vec![Access::ReadWrite; 3],
    }
}

/// The shader of the merge, for validation without a GPU.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    vec![(combine_shader(), CombineParams::FIELDS)]
}

/// Records the attention of q over `chunks` of the cache into o, both `[tokens, heads, head_dim]`, as
/// the variant that [`Variant::pick`] gives.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn attention(
    rec: &mut Recorder,
    state: &Slice,
    q: &Slice,
    cache: &CacheShape,
    chunks: &[(Slice, Slice)],
    scratch: &Scratch,
    o: &Slice,
    s: &Shape,
) -> Result<()> {
    let variant = Variant::pick(rec.gpu().caps(), s, cache);
    attention_as(rec, variant, state, q, cache, chunks, scratch, o, s)
}

/// As [`attention`], as `variant`, which the device must support.
///
/// # Errors
/// As [`attention`].
pub fn attention_as(
    rec: &mut Recorder,
    variant: Variant,
    state: &Slice,
    q: &Slice,
    cache: &CacheShape,
    chunks: &[(Slice, Slice)],
    scratch: &Scratch,
    o: &Slice,
    s: &Shape,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let kernel = variant.kernel(gpu.caps(), s, cache);
    let (head, ty, tile) = (cache.head_dim, cache.ty, kernel.tile());
    let keys = if s.sequences == Sequences::One { Keys::Cached } else { Keys::Streams };
    let pipeline = gpu.pipeline(&kernel.name(head, keys, ty), || kernel.shader(head, keys, ty))?;
    let target = if s.splits > 1 { &scratch.o } else { o };
    for (i, (kc, vc)) in chunks.iter().enumerate() {
        let plan = plan(s, cache, i, tile, gpu.budget())?;
        record(rec, &pipeline, &[state, kc, vc, q, target, &scratch.lse], &plan);
    }
    combine(rec, s, cache, scratch, o)
}

/// Records the merge of the splits, if there are several.
pub(super) fn combine(
    rec: &mut Recorder,
    s: &Shape,
    cache: &CacheShape,
    scratch: &Scratch,
    o: &Slice,
) -> Result<()> {
    if s.splits > 1 {
        let pipeline = rec.gpu().pipeline("attention_combine_f32", combine_shader)?;
        let plan = plan_combine(s, cache, rec.gpu().budget())?;
        record(rec, &pipeline, &[&scratch.o, &scratch.lse, o], &plan);
    }
    Ok(())
}
