//! The same within a training batch of packed sequences, and its gradient.

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::{Extra, Kernel, Params, Target, constants, suffix};
use crate::ops::rope::{Pairing, Rotation};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    /// Parameters of the gradient.
    pub struct BackwardParams {
        pub token0: u32,
        pub tokens: u32,
        pub heads: u32,
        pub kv_heads: u32,
        pub pairs: u32,
        pub grid_x: u32,
        pub mscale: f32,
        pub eps: f32,
    }
}

/// What a training batch's heads go through.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Tokens of the batch, all sequences one after the other.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// KV heads.
    pub kv_heads: u32,
    /// Size of a head.
    pub head_dim: u32,
    /// RoPE.
    pub rotation: &'a Rotation,
    /// Epsilon of the norms.
    pub eps: f32,
}

impl Shape<'_> {
    fn row(&self, heads: u32) -> u64 {
        u64::from(heads) * u64::from(self.head_dim) * 4
    }

    /// Heads of a token in qkv.
    fn all(&self) -> u32 {
        self.heads + 2 * self.kv_heads
    }

    /// Ranges of tokens whose tensors each fit a binding, and what is bound whole: spans, table, norms.
    fn ranges(
        &self,
        table: u64,
        norms: u64,
        budget: &Budget,
    ) -> std::result::Result<(Vec<std::ops::Range<u32>>, Vec<Bind>), PlanError> {
        let pairs = self.rotation.pairs();
        if pairs * 2 > self.head_dim || !self.head_dim.is_multiple_of(2) {
            let what = format!("cannot rotate {} dimensions of a head of {}", pairs * 2, self.head_dim);
            return Err(PlanError::Shape { op: "qk_norm_rope", what });
        }
        let whole = [(u64::from(self.tokens) * 8, "the spans"), (table, "the table of angles")];
        if let Some(&(needed, what)) = whole.iter().find(|w| w.0 > budget.max_binding) {
            return Err(PlanError::DoesNotFit {
                op: "qk_norm_rope",
                what,
                needed,
                allowed: budget.max_binding,
            });
        }
        let rows = [self.row(self.all()), self.row(self.heads), self.row(self.kv_heads)];
        let binds = [whole[0].0, table, norms].into_iter().enumerate();
        let binds = binds.map(|(operand, size)| Bind { operand, offset: 0, size }).collect();
        Ok((split_rows("qk_norm_rope", self.tokens, &rows, budget)?, binds))
    }
}

/// The dispatches of the batch. Operands: spans, table, norms, qkv, q, k, v.
///
/// # Errors
/// A token's heads or the table of angles that exceed a binding; a rotation wider than a head.
pub fn plan(
    s: &Shape<'_>,
    table: u64,
    norms: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let (ranges, whole) = s.ranges(table, norms, budget)?;
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold(n * (s.heads + s.kv_heads), budget);
        let moved = f64::from(n) * (2 * s.row(s.all())) as f64;
        let mut binds = whole.clone();
        for (operand, heads) in [(3, s.all()), (4, s.heads), (5, s.kv_heads), (6, s.kv_heads)] {
            let row = s.row(heads);
            binds.push(Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row });
        }
        Dispatch {
            params: Params {
                token0: t.start,
                tokens: n,
                heads: s.heads,
                kv_heads: s.kv_heads,
                pairs: s.rotation.pairs(),
                position0: t.start,
                positions: n,
                queries: 1,
                grid_x: grid[0],
                mscale: s.rotation.mscale,
                eps: s.eps,
                context: 0,
                chunk: 0,
                chunks: 1,
                table: 0,
                piece: 0,
            },
            binds,
            grid,
            cost: Cost { bytes: moved, flops: moved },
        }
    };
    Ok(ranges.into_iter().map(dispatch).collect())
}

/// The dispatches of a kernel of [`BackwardParams`] whose workgroups serve `per` heads: the gradient's, or
/// those of heads that are rotated as a whole. Operands: spans, table, norms, qkv, dq, dk, dv, dqkv, or q, k
/// and v for their gradients and no dqkv.
///
/// # Errors
/// As [`plan`].
pub fn plan_by_heads(
    s: &Shape<'_>,
    table: u64,
    norms: u64,
    (per, backward): (u32, bool),
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<BackwardParams>>, PlanError> {
    let (ranges, whole) = s.ranges(table, norms, budget)?;
    let dispatch = |t: std::ops::Range<u32>| {
        let n = t.end - t.start;
        let grid = fold((n * s.all()).div_ceil(per), budget);
        let moved = f64::from(n) * ((2 + u64::from(backward)) * s.row(s.all())) as f64;
        let mut binds = whole.clone();
        let parts = [(3, s.all()), (4, s.heads), (5, s.kv_heads), (6, s.kv_heads), (7, s.all())];
        for (operand, heads) in parts.into_iter().take(4 + usize::from(backward)) {
            let row = s.row(heads);
            binds.push(Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row });
        }
        Dispatch {
            params: BackwardParams {
                token0: t.start,
                tokens: n,
                heads: s.heads,
                kv_heads: s.kv_heads,
                pairs: s.rotation.pairs(),
                grid_x: grid[0],
                mscale: s.rotation.mscale,
                eps: s.eps,
            },
            binds,
            grid,
            cost: Cost { bytes: moved, flops: moved },
        }
    };
    Ok(ranges.into_iter().map(dispatch).collect())
}

/// Heads of a workgroup where heads are rotated as a whole and their lanes hold eight values each.
fn lanes(s: &Shape<'_>) -> Option<u32> {
    let whole = s.rotation.pairs() * 2 == s.head_dim && s.head_dim.is_multiple_of(8);
    (whole && s.head_dim <= 256).then(|| 256 / (s.head_dim / 8))
}

fn lanes_name(head_dim: u32, norm: bool, pairing: Pairing, backward: bool) -> String {
    let what = if backward { "qk_norm_rope_backward_lanes" } else { "qk_norm_rope_lanes" };
    format!("{what}{}", suffix(head_dim, norm, pairing))
}

pub(super) fn lanes_shader(head_dim: u32, norm: bool, pairing: Pairing, backward: bool) -> (Shader, Fields) {
    let kernel = match backward {
        true => include_str!("lanes_backward.wgsl"),
        false => include_str!("lanes_forward.wgsl"),
    };
    let parts = [include_str!("lanes.wgsl"), include_str!("packed.wgsl"), kernel];
    let shader = Shader {
        name: lanes_name(head_dim, norm, pairing, backward),
        source: compose(&[], &constants(head_dim, norm, pairing), &parts),
        bindings: [&[Access::Read; 3][..], &[Access::ReadWrite; 5][..4 + usize::from(backward)]].concat(),
    };
    (shader, BackwardParams::FIELDS)
}

fn backward_name(head_dim: u32, norm: bool, pairing: Pairing) -> String {
    format!("qk_norm_rope_backward{}", suffix(head_dim, norm, pairing))
}

pub(super) fn backward_shader(head_dim: u32, norm: bool, pairing: Pairing) -> (Shader, Fields) {
    let parts = [
        include_str!("../../wgsl/reduce.wgsl"),
        include_str!("rotated.wgsl"),
        include_str!("packed.wgsl"),
        include_str!("backward.wgsl"),
    ];
    let shader = Shader {
        name: backward_name(head_dim, norm, pairing),
        source: compose(&[], &constants(head_dim, norm, pairing), &parts),
        bindings: [&[Access::Read; 3][..], &[Access::ReadWrite; 5]].concat(),
    };
    (shader, BackwardParams::FIELDS)
}

/// Records QK-norm and RoPE of a training batch: from qkv `[tokens, heads + 2 kv_heads, head_dim]` to
/// q `[tokens, heads, head_dim]` and k, v `[tokens, kv_heads, head_dim]`, all f32 activations.
///
/// `spans` `[tokens]` of two u32 has the first token of each token's sequence and one past its last; it
/// lies outside of the activations. `table` is what [`Rotation::table`] gives for the longest sequence,
/// `norms` the weights `[2, head_dim]` of QK-norm for q and for k, where the model has it.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn forward(
    rec: &mut Recorder,
    spans: &Slice,
    table: &Slice,
    norms: Option<&Slice>,
    qkv: &Slice,
    [q, k, v]: [&Slice; 3],
    s: &Shape<'_>,
) -> Result<()> {
    let (head_dim, norm, pairing) = (s.head_dim, norms.is_some(), s.rotation.pairing);
    // Without norms the table stands in for them: bound, never read.
    let norms = norms.unwrap_or(table);
    if let Some(per) = lanes(s) {
        let name = lanes_name(head_dim, norm, pairing, false);
        let pipeline = rec.gpu().pipeline(&name, || lanes_shader(head_dim, norm, pairing, false).0)?;
        let plan = plan_by_heads(s, table.size(), norms.size(), (per, false), rec.gpu().budget())?;
        record(rec, &pipeline, &[spans, table, norms, qkv, q, k, v], &plan);
        return Ok(());
    }
    let extra = if norm { Extra::Norms } else { Extra::None };
    let kernel = Kernel { head_dim, extra, pairing, target: Target::Packed };
    let pipeline = rec.gpu().pipeline(&kernel.name(), || kernel.shader())?;
    let plan = plan(s, table.size(), norms.size(), rec.gpu().budget())?;
    record(rec, &pipeline, &[spans, table, norms, qkv, q, k, v], &plan);
    Ok(())
}

/// The operands of the gradient of [`forward`] with respect to qkv. The weights of the norms are frozen.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// The first token of each token's sequence and one past its last, `[tokens, 2]` u32.
    pub spans: &'a Slice,
    /// The angles, as [`Rotation::table`] gives them, f32.
    pub table: &'a Slice,
    /// The weights of QK-norm, `[2, head_dim]` f32, where the model has it.
    pub norms: Option<&'a Slice>,
    /// The qkv that went in, `[tokens, heads + 2 kv_heads, head_dim]` f32.
    pub qkv: &'a Slice,
    /// The gradients of q `[tokens, heads, head_dim]`, of k and of v `[tokens, kv_heads, head_dim]`, f32.
    pub gradients: [&'a Slice; 3],
    /// The gradient of qkv, in its shape, f32, which is overwritten.
    pub dqkv: &'a Slice,
    /// The batch.
    pub shape: &'a Shape<'a>,
}

impl Backward<'_> {
    /// Records it.
    ///
    /// # Errors
    /// As [`forward`].
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let Backward { spans, table, norms, qkv, gradients: [dq, dk, dv], dqkv, shape: s } = *self;
        let (head_dim, norm, pairing) = (s.head_dim, norms.is_some(), s.rotation.pairing);
        let gpu = rec.gpu().clone();
        let (pipeline, per) = match lanes(s) {
            Some(per) => {
                let name = lanes_name(head_dim, norm, pairing, true);
                (gpu.pipeline(&name, || lanes_shader(head_dim, norm, pairing, true).0)?, per)
            }
            None => {
                let name = backward_name(head_dim, norm, pairing);
                (gpu.pipeline(&name, || backward_shader(head_dim, norm, pairing).0)?, 1)
            }
        };
        let norms = norms.unwrap_or(table);
        let plan = plan_by_heads(s, table.size(), norms.size(), (per, true), gpu.budget())?;
        record(rec, &pipeline, &[spans, table, norms, qkv, dq, dk, dv, dqkv], &plan);
        Ok(())
    }
}
