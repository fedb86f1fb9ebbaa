//! The gradients of attention within a training batch: the softmax is recomputed from the log-sum-exp that the
//! forward pass ([`train`](super::train)) keeps.

use std::ops::Range;

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

use super::kernel::{COOP_KEYS, CoopTile, Variant};
use super::shape::Mask;
use super::train::{PEAK_BYTES, Shape};
use crate::coop::Coop;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    /// Parameters of the sums that the gradients share.
    pub struct DeltaParams {
        pub rows: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

params! {
    /// Parameters of the gradients.
    pub struct BackwardParams {
        pub token0: u32,
        pub tokens: u32,
        pub key0: u32,
        pub keys: u32,
        pub kv_heads: u32,
        pub group: u32,
        pub more: u32,
        pub scale: f32,
        pub window: u32,
        pub pad: [u32; 3],
    }
}

/// Which tokens see which keys.
const MASK: &str = include_str!("backward_mask.wgsl");

/// Own rows of a workgroup of the baseline.
fn tile(head_dim: u32) -> u32 {
    if head_dim > 128 { 4 } else { 8 }
}

/// The dispatches of the sums. Operands: o, gradient of o, lse, stats, peak.
///
/// # Errors
/// A row that exceeds a binding.
pub fn plan_delta(s: &Shape, budget: &Budget) -> std::result::Result<Vec<Dispatch<DeltaParams>>, PlanError> {
    let row = s.row(s.heads);
    let rows = [row, s.lse_row(), 2 * s.lse_row()];
    Ok(split_rows("attention", s.tokens, &rows, budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let part = |operand, row: u64| Bind {
                operand,
                offset: u64::from(t.start) * row,
                size: u64::from(n) * row,
            };
            let grid = fold((n * s.heads).div_ceil(delta_rows(s.head_dim)), budget);
            let moved = 2.0 * f64::from(n) * row as f64;
            Dispatch {
                params: DeltaParams { rows: n * s.heads, grid_x: grid[0], pad: [0; 2] },
                binds: vec![
                    part(0, row),
                    part(1, row),
                    part(2, s.lse_row()),
                    part(3, 2 * s.lse_row()),
                    Bind { operand: 4, offset: 0, size: 4 },
                ],
                grid,
                cost: Cost { bytes: moved, flops: moved / 4.0 },
            }
        })
        .collect())
}

/// Which gradient a dispatch computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// The gradient of the queries.
    Queries,
    /// The gradients of the keys and the values.
    KeysAndValues,
    /// The gradient of the keys.
    Keys,
    /// The gradient of the values.
    Values,
}

/// The dispatches of a gradient, in order, with `tile` own rows a workgroup. Operands: spans, q, k, v,
/// gradient of o, stats, with cooperative matrices the peak, then one or two gradients.
///
/// # Errors
/// A row that exceeds a binding; a head size that is not supported.
pub fn plan_backward(
    s: &Shape,
    gradient: Gradient,
    tile: u32,
    coop: bool,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<BackwardParams>>, PlanError> {
    let Mask::Causal { window } = s.mask else {
        let what = "gradients of attention that sees both ways are not supported".into();
        return Err(PlanError::Shape { op: "attention", what });
    };
    let keys = s.keys(budget)?;
    let group = s.heads / s.kv_heads;
    let mut all = Vec::new();
    let queries = s.tokens(tile, budget)?;
    // Keys in as many workgroups as a dispatch may have.
    let most = u64::from(budget.max_workgroups) * u64::from(tile);
    let budget = Budget { max_binding: budget.max_binding.min(most * s.row(s.kv_heads)), ..budget.clone() };
    let keys = match gradient {
        Gradient::Queries => (0..keys.chunks()).map(|i| keys.chunk(i)).collect(),
        _ => split_rows("attention", s.tokens, &[s.row(s.kv_heads)], &budget)?,
    };
    for t in &queries {
        for k in &keys {
            if k.start >= t.end {
                continue;
            }
            let (tokens, n) = (t.end - t.start, k.end - k.start);
            let part = |operand, range: &Range<u32>, row: u64| Bind {
                operand,
                offset: u64::from(range.start) * row,
                size: u64::from(range.end - range.start) * row,
            };
            let (row, kv_row) = (s.row(s.heads), s.row(s.kv_heads));
            let mut binds = vec![
                Bind { operand: 0, offset: 0, size: u64::from(s.tokens) * 8 },
                part(1, t, row),
                part(2, k, kv_row),
                part(3, k, kv_row),
                part(4, t, row),
                part(5, t, 2 * s.lse_row()),
            ];
            if coop {
                binds.push(Bind { operand: 6, offset: 0, size: 4 });
            }
            let next = binds.len();
            let (more, own, products) = if gradient == Gradient::Queries {
                binds.push(part(next, t, row));
                (k.start > 0, tokens * group, 6.0)
            } else {
                binds.push(part(next, k, kv_row));
                if gradient == Gradient::KeysAndValues {
                    binds.push(part(next + 1, k, kv_row));
                }
                // The first queries that see a key are those of its own range.
                let first = queries.iter().position(|q| q.end > k.start);
                (first.is_some_and(|f| queries[f] != *t), n, 8.0)
            };
            let work = f64::from(tokens) * f64::from(n) * f64::from(s.heads) * f64::from(s.head_dim);
            all.push(Dispatch {
                params: BackwardParams {
                    token0: t.start,
                    tokens,
                    key0: k.start,
                    keys: n,
                    kv_heads: s.kv_heads,
                    group,
                    more: u32::from(more),
                    scale: s.scale,
                    window,
                    pad: [0; 3],
                },
                binds,
                grid: [s.kv_heads, own.div_ceil(tile), 1],
                // Half of the keys are in the future.
                cost: Cost { bytes: f64::from(tokens) * row as f64, flops: products * work / 2.0 },
            });
        }
    }
    Ok(all)
}

/// Rows of a workgroup of the sums that the gradients share, whose lanes hold eight values each.
fn delta_rows(head_dim: u32) -> u32 {
    256 / (head_dim / 8)
}

fn delta_name(head_dim: u32) -> String {
    format!("attention_backward_delta_h{head_dim}_f32")
}

fn delta_shader(head_dim: u32) -> Shader {
    let parts = [include_str!("backward_delta.wgsl")];
    Shader {
        name: delta_name(head_dim),
        source: compose(&[], &[("HD", head_dim)], &parts),
        bindings: vec![Access::ReadWrite; 5],
    }
}

/// As for the forward pass, with room for a second tile of scores.
fn fits(variant: Variant, caps: &Caps, head_dim: u32) -> std::result::Result<(), &'static str> {
    variant.fits(caps, head_dim)?;
    let Some(c) = Coop::of(caps).filter(|_| variant != Variant::Rows) else { return Ok(()) };
    let tile = variant.tile(c);
    let second = 4 * tile.rows() * (COOP_KEYS + 4);
    match tile.bytes(head_dim) + second > caps.limits.max_compute_workgroup_storage_size {
        true => Err("too little workgroup memory"),
        false => Ok(()),
    }
}

/// A gradient's shader: the baseline, or with cooperative matrices.
fn backward_kernel(gradient: Gradient, head_dim: u32, coop: Option<CoopTile>) -> (String, u32) {
    let what = match gradient {
        Gradient::Queries => "q",
        Gradient::KeysAndValues => "kv",
        Gradient::Keys => "k",
        Gradient::Values => "v",
    };
    match coop {
        None => (format!("attention_backward_{what}_h{head_dim}_f32"), tile(head_dim)),
        Some(c) => {
            let CoopTile { side, subgroup, subgroups } = c;
            let name = format!("attention_backward_{what}_coop{side}_s{subgroup}x{subgroups}_h{head_dim}");
            (name, c.rows())
        }
    }
}

fn backward_shader(gradient: Gradient, head_dim: u32, coop: Option<CoopTile>) -> Shader {
    let outputs = if gradient == Gradient::KeysAndValues { 2 } else { 1 };
    let mut bindings = vec![Access::ReadWrite; 6 + usize::from(coop.is_some()) + outputs];
    bindings[0] = Access::Read;
    let (name, rows) = backward_kernel(gradient, head_dim, coop);
    let source = match coop {
        None => {
            let kernel = match gradient {
                Gradient::Queries => include_str!("backward_q.wgsl"),
                _ => include_str!("backward_kv.wgsl"),
            };
            compose(&[], &[("HD", head_dim), ("R", rows)], &[kernel, MASK])
        }
        Some(c) => {
            let own = u32::from(gradient != Gradient::Queries);
            let values = u32::from(gradient == Gradient::Values);
            let constants = [&c.constants(head_dim)[..], &[("OWN_KEYS", own), ("VALUES", values)]].concat();
            let enables = ["f16", "wgpu_cooperative_matrix"];
            compose(&enables, &constants, &[include_str!("backward_coop.wgsl"), MASK, c.matrices()])
        }
    };
    Shader { name, source, bindings }
}

fn reset_shader() -> Shader {
    Shader {
        name: "attention_backward_reset".into(),
        source: compose(&[], &[], &[include_str!("backward_reset.wgsl")]),
        bindings: vec![Access::ReadWrite],
    }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = vec![(reset_shader(), DeltaParams::FIELDS)];
    for head_dim in [8, 32, 64, 80, 96, 128, 256] {
        all.push((delta_shader(head_dim), DeltaParams::FIELDS));
        for gradient in [Gradient::Queries, Gradient::KeysAndValues] {
            all.push((backward_shader(gradient, head_dim, None), BackwardParams::FIELDS));
        }
    }
    for coop in Coop::DEVICES {
        for (head_dim, variant) in [(64, Variant::Coop), (128, Variant::Coop), (128, Variant::CoopWide)] {
            for gradient in [Gradient::Queries, Gradient::Keys, Gradient::Values] {
                let shader = backward_shader(gradient, head_dim, Some(variant.tile(coop)));
                all.push((shader, BackwardParams::FIELDS));
            }
        }
    }
    all
}

/// The operands of the gradients of [`attention`](super::train::attention): what the forward pass read and wrote, the
/// gradient of its result, and where those of its inputs go, which are overwritten. All sums are taken in a fixed
/// order.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// The first token of each token's sequence and one past its last, `[tokens, 2]` u32.
    pub spans: &'a Slice,
    /// q `[tokens, heads, head_dim]`, k and v `[tokens, kv_heads, head_dim]`, f32.
    pub qkv: [&'a Slice; 3],
    /// The forward pass's result, `[tokens, heads, head_dim]` f32.
    pub o: &'a Slice,
    /// Its log-sum-exp, `[tokens, heads]` f32.
    pub lse: &'a Slice,
    /// The gradient of o, `[tokens, heads, head_dim]` f32.
    pub g: &'a Slice,
    /// [`Shape::scratch_bytes`] bytes of activations.
    pub scratch: &'a Slice,
    /// The gradients of q, k and v, in their shapes, f32.
    pub gradients: [&'a Slice; 3],
    /// The batch.
    pub shape: &'a Shape,
}

impl Backward<'_> {
    /// Records them, with cooperative matrices where there are any.
    ///
    /// # Errors
    /// As [`attention`](super::train::attention).
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let (caps, s) = (rec.gpu().caps(), self.shape);
        let can = |v: Variant| fits(v, caps, s.head_dim).is_ok();
        self.record_as(rec, Variant::of_batch("attention_backward", caps, s.tokens, s.head_dim, can))
    }

    /// Records them as [`Variant::Rows`], [`Variant::Coop`] or [`Variant::CoopWide`].
    ///
    /// # Errors
    /// As [`Backward::record`]; the device lacks what the variant needs.
    pub fn record_as(&self, rec: &mut Recorder, variant: Variant) -> Result<()> {
        let Backward { spans, qkv: [q, k, v], o, lse, g, scratch, gradients: [dq, dk, dv], shape: s } = *self;
        let gpu = rec.gpu().clone();
        if let Err(why) = fits(variant, gpu.caps(), s.head_dim) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        let coop = Coop::of(gpu.caps()).filter(|_| variant != Variant::Rows).map(|c| variant.tile(c));
        let (peak, stats) = (scratch.range(0, 4), scratch.range(PEAK_BYTES, 2 * s.lse_bytes()));
        let reset = gpu.pipeline("attention_backward_reset", reset_shader)?;
        rec.dispatch(
            &reset,
            &DeltaParams { rows: 1, grid_x: 1, pad: [0; 2] },
            &[&peak],
            [1; 3],
            Cost { bytes: 4.0, flops: 1.0 },
        );
        let pipeline = gpu.pipeline(&delta_name(s.head_dim), || delta_shader(s.head_dim))?;
        record(rec, &pipeline, &[o, g, lse, &stats, &peak], &plan_delta(s, gpu.budget())?);
        let all: &[(Gradient, &[&Slice])] = match coop {
            None => &[(Gradient::Queries, &[dq]), (Gradient::KeysAndValues, &[dk, dv])],
            Some(_) => &[(Gradient::Queries, &[dq]), (Gradient::Keys, &[dk]), (Gradient::Values, &[dv])],
        };
        for &(gradient, outputs) in all {
            let (name, tile) = backward_kernel(gradient, s.head_dim, coop);
            let pipeline = gpu.pipeline(&name, || backward_shader(gradient, s.head_dim, coop))?;
            let mut operands = vec![spans, q, k, v, g, &stats];
            if coop.is_some() {
                operands.push(&peak);
            }
            operands.extend(outputs);
            let plan = plan_backward(s, gradient, tile, coop.is_some(), gpu.budget())?;
            record(rec, &pipeline, &operands, &plan);
        }
        Ok(())
    }
}
