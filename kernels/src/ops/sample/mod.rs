//! Draws the next token on the GPU and advances the state, so that the next step needs no host.

pub mod cases;
pub mod reference;

use bytemuck::{Pod, Zeroable};
use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, params, record};

params! {
    pub struct Params {
        pub vocab: u32,
        pub tokens: u32,
        pub capacity: u32,
        pub pad: u32,
    }
}

/// What the sampler reads and advances; every kernel reads `position` from its first word.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct State {
    /// Position of the next batch's first token.
    pub position: u32,
    /// Seed of the draws.
    pub seed: u32,
    /// Keep the k largest logits; 0 keeps all.
    pub top_k: u32,
    /// Tokens that the penalty looks back.
    pub last_n: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the smallest set of this mass.
    pub top_p: f32,
    /// Keep what has at least this part of the largest probability.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens.
    pub penalty: f32,
}

/// The dispatch. Operands: state, logits, ids, history.
///
/// # Errors
/// A vocabulary whose logits exceed a binding.
pub fn plan(
    vocab: u32,
    tokens: u32,
    capacity: u32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let bytes = u64::from(vocab) * 4;
    if bytes > budget.max_binding {
        return Err(PlanError::DoesNotFit {
            op: "sample",
            what: "a row of logits",
            needed: bytes,
            allowed: budget.max_binding,
        });
    }
    Ok(vec![Dispatch {
        params: Params { vocab, tokens, capacity, pad: 0 },
        binds: vec![
            Bind { operand: 0, offset: 0, size: size_of::<State>() as u64 },
            Bind { operand: 1, offset: 0, size: bytes },
            Bind { operand: 2, offset: 0, size: 4 },
            Bind { operand: 3, offset: 0, size: u64::from(capacity) * 4 },
        ],
        grid: [1, 1, 1],
        cost: Cost { bytes: bytes as f64 * 12.0, flops: bytes as f64 * 12.0 },
    }])
}

fn shader() -> Shader {
    Shader {
        name: "sample_f32".into(),
        source: compose(&[], &[], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite; 4],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}

/// Records the draw from `logits`, one row of `vocab`, after a batch of `tokens`.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn sample(
    rec: &mut Recorder,
    state: &Slice,
    logits: &Slice,
    ids: &Slice,
    history: &Slice,
    vocab: u32,
    tokens: u32,
) -> Result<()> {
    let pipeline = rec.gpu().pipeline("sample_f32", shader)?;
    let plan = plan(vocab, tokens, (history.size() / 4) as u32, rec.gpu().budget())?;
    record(rec, &pipeline, &[state, logits, ids, history], &plan);
    Ok(())
}
