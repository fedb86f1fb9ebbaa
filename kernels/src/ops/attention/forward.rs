//! Records an attention over a cache.

use weft_runtime::{Access, Recorder, Shader, Slice};

use super::kernel::{Keys, Variant};
use super::plan::{CombineParams, plan, plan_combine};
use super::shape::{Scratch, Shape};
use crate::layout::CacheShape;
use crate::ops::hadamard::Hadamard;
use crate::{Bind, Fields, Result, compose, record};

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

/// The operands of an attention over a cache.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// What the sampler advances: a [`State`](crate::layout::State), or one for each slot, of u32 and f32.
    pub state: &'a Slice,
    /// The queries, `[tokens, heads, q_row]` f32, see [`CacheShape::q_row`]; turned as the cache's keys are.
    pub q: &'a Slice,
    /// How the cache lies in memory.
    pub cache: &'a CacheShape,
    /// The keys and the values of each chunk, `[positions, kv_heads, head_dim]` of the cache's type.
    pub chunks: &'a [(Slice, Slice)],
    /// Memory for the splits.
    pub scratch: &'a Scratch,
    /// The angles, as [`Rotation::table`](crate::ops::rope::Rotation::table) gives them, f32: read where keys lie
    /// without their bias.
    pub table: &'a Slice,
    /// The result, `[tokens, heads, head_dim]` f32.
    pub o: &'a Slice,
    /// What is computed.
    pub shape: &'a Shape,
}

impl Attention<'_> {
    /// Records it, as the variant that [`Variant::pick`] gives.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        self.record_as(rec, Variant::pick(rec.gpu().caps(), self.shape, self.cache))
    }

    /// Records it as `variant`, which the device must support.
    ///
    /// # Errors
    /// As [`Attention::record`].
    pub fn record_as(&self, rec: &mut Recorder, variant: Variant) -> Result<()> {
        let Attention { state, q, cache, chunks, scratch, table, o, shape } = *self;
        let gpu = rec.gpu().clone();
        let kernel = variant.kernel(gpu.caps(), shape, cache);
        let (head, ty, tile) = (cache.head_dim, cache.ty, kernel.tile());
        let keys = Keys::of(cache, shape.sequences);
        let name = kernel.name_for(cache, keys);
        let pipeline = gpu.pipeline(&name, || kernel.shader_as(head, keys, ty, cache.apart))?;
        let target = if shape.splits > 1 { &scratch.o } else { o };
        for (i, (kc, vc)) in chunks.iter().enumerate() {
            let mut plan = plan(shape, cache, i, tile, gpu.budget())?;
            if cache.apart {
                let table = Bind { operand: 6, offset: 0, size: table.size() };
                plan.iter_mut().for_each(|d| d.binds.push(table.clone()));
            }
            record(rec, &pipeline, &[state, kc, vc, q, target, &scratch.lse, table], &plan);
        }
        combine(rec, shape, cache, scratch, o)?;
        match ty.spread(head) {
            0 => Ok(()),
            side => Hadamard { x: o, rows: shape.tokens, cols: shape.heads * head, side }.record(rec),
        }
    }
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
