//! The dispatches of a product of many tokens.

use weft_runtime::Cost;

use super::tiles::{Kernel, Params};
use super::variant::Direction;
use crate::layout::{Columns, Format, split_tokens};
use crate::ops::quantize;
use crate::{Bind, Budget, Dispatch, PlanError, WeightShape};

/// The shape of an adapter's product.
#[derive(Debug, Clone, Copy)]
pub(super) struct LowShape {
    /// Ranks of an adapter.
    pub(super) ranks: u32,
    /// Where they lie in t.
    pub(super) columns: Columns,
    /// The rows at which the second and the third matrix's adapters begin.
    pub(super) bounds: [u32; 2],
    /// Bytes of its matrix.
    pub(super) bytes: u64,
}

/// What a product is about, besides the weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProductShape {
    pub(super) direction: Direction,
    pub(super) kernel: Kernel,
    /// How the left side lies in memory.
    pub(super) x: Format,
    pub(super) tokens: u32,
    /// Where the weight's rows lie: in y, or in dy.
    pub(super) columns: Columns,
    pub(super) flags: u32,
    /// Power of two that keeps a gradient in the range of f16.
    pub(super) scale: f32,
    /// Parts that workgroups share the sum in, and the values of each.
    pub(super) parts: (u32, u32),
    /// Whether the result has room for whole tiles of tokens, where a kernel may write what it likes.
    pub(super) padded: bool,
    /// An adapter's product that joins the sum.
    pub(super) low: Option<LowShape>,
}

/// One dispatch for each range of tokens whose rows of both activations fit a binding. Operands: slab,
/// slab, left side, result, and forward the bias, and for integers their scales.
///
/// # Errors
/// A row of activations that exceeds a binding.
pub(super) fn plan(
    w: &WeightShape,
    slab: usize,
    product: &ProductShape,
    bias_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let (of_rows, of_cols) = (u64::from(product.columns.stride), u64::from(w.cols));
    let forward = product.direction == Direction::Forward;
    let integers = matches!(product.kernel, Kernel::TiledDot(_));
    // Bytes of a token in each operand from the third on; none of the bias.
    let mut per_token = match product.direction {
        Direction::Forward => vec![of_cols * product.x.bytes(), of_rows * 4, 0],
        Direction::Gradient => vec![of_rows * product.x.bytes(), of_cols * 4],
    };
    if integers {
        let (q, meta) = quantize::bytes(of_cols);
        per_token[0] = q;
        per_token.push(meta);
    }
    let m_bytes = product.low.map(|l| {
        per_token.extend([u64::from(l.columns.stride) * 4, 0]);
        l.bytes
    });
    let split: Vec<u64> = per_token.iter().copied().filter(|&b| b > 0).collect();
    let (bm, bn) = product.kernel.tile();
    let outputs = if forward { rows } else { w.cols };
    let ranges = split_tokens(product.direction.op(), product.tokens, &split, product.x, budget)?;
    Ok(ranges
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let mut binds: Vec<Bind> =
                (0..2).map(|operand| Bind { operand, offset: 0, size: s.bytes }).collect();
            for (i, &row) in per_token.iter().enumerate() {
                let (offset, size) = match row {
                    0 if i + 1 == per_token.len() => (0, m_bytes.unwrap_or(bias_bytes)),
                    0 => (0, bias_bytes),
                    // Tiles are bound whole.
                    row if i == 0 => (u64::from(t.start) * row, product.x.rows(n) * row),
                    // All parts of the result.
                    row if i == 1 => {
                        let n = if product.padded { n.next_multiple_of(bm) } else { n };
                        (u64::from(t.start) * row, u64::from(n) * row * u64::from(product.parts.0))
                    }
                    row => (u64::from(t.start) * row, u64::from(n) * row),
                };
                binds.push(Bind { operand: 2 + i, offset, size });
            }
            Dispatch {
                params: Params {
                    planes: s.planes,
                    row0: s.rows.start,
                    rows,
                    units: w.units(),
                    y_stride: product.columns.stride,
                    flags: product.flags,
                    extent: n,
                    column: product.columns.column,
                    scale: product.scale,
                    chunk: product.parts.1,
                    ranks: product.low.map_or(0, |l| l.ranks),
                    t_stride: product.low.map_or(0, |l| l.columns.stride),
                    t_column: product.low.map_or(0, |l| l.columns.column),
                    bounds: product.low.map_or([u32::MAX; 2], |l| l.bounds),
                    pad: [0; 2],
                },
                binds,
                grid: [n.div_ceil(bm), outputs.div_ceil(bn), product.parts.0],
                cost: Cost {
                    bytes: s.bytes as f64 + f64::from(n) * per_token.iter().sum::<u64>() as f64,
                    flops: 2.0 * f64::from(n) * f64::from(rows) * f64::from(w.cols),
                },
            }
        })
        .collect())
}
