//! How fast the products of a decode step's chain are.

use weft_runtime::{Gpu, Pool};

use super::ops::{Call, Op, f32s};
use super::weights;
use crate::ops::matmul::Columns;
use crate::ops::matmul::chain::{self, ChainEpilogue, ChainOutput};
use crate::ops::quantize::{self, Quantized};
use crate::{PlanError, Result, Weight, WeightType};

/// The products of a decode step's chain, in a model of these widths: of queries, keys and values together, of the
/// residual stream, and of the feed-forward network.
pub(super) fn ops([attention, width, forward]: [u32; 3]) -> Vec<Op> {
    let mut all = Vec::new();
    for ty in [WeightType::Q4_0, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K] {
        for (kind, rows, cols) in [
            (ChainEpilogue::Rows, attention, width),
            (ChainEpilogue::Residual, width, forward),
            (ChainEpilogue::SwiGlu, 2 * forward, width),
        ] {
            all.extend([1, 2, 4, 8].map(|tokens| chained(ty, kind, [rows, cols, tokens])));
        }
    }
    all
}

/// A product of a decode step's chain, of a few tokens.
fn chained(ty: WeightType, kind: ChainEpilogue, [rows, cols, tokens]: [u32; 3]) -> Op {
    let bytes = ty.row_bytes(cols as usize) as f64 * f64::from(rows);
    let flops = 2.0 * f64::from(tokens) * f64::from(rows) * f64::from(cols);
    let call = move |gpu: &Gpu, w: Weight| -> Result<Call> {
        if let Err(why) = chain::supports(gpu.caps(), &w.shape, kind, tokens) {
            return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
        }
        let integers = |n: u32| -> Result<Quantized> {
            let (q, meta) = quantize::bytes_normed(n.into());
            let alloc = |bytes| gpu.alloc(Pool::Activations, bytes, "perf op");
            Ok(Quantized { q: alloc(q)?, meta: alloc(meta)? })
        };
        let (ints, out, y) = (integers(tokens * cols)?, integers(tokens * rows)?, f32s(gpu, tokens * rows)?);
        let norm = gpu.alloc(Pool::Weights, u64::from(rows) * 4, "perf op")?;
        Ok(Box::new(move |rec| {
            let end = match kind {
                ChainEpilogue::Rows => ChainOutput::Rows { y: &y, columns: Columns::all(rows), bias: None },
                ChainEpilogue::Residual => ChainOutput::Residual { h: &y, norm: &norm, out: &out },
                ChainEpilogue::SwiGlu => ChainOutput::SwiGlu { out: &out },
            };
            let normed = (kind != ChainEpilogue::Residual).then_some(1e-6);
            chain::chained(rec, &w, chain::Input { ints: &ints, tokens, norm: normed }, end)
        }))
    };
    let calls = move |gpu: &Gpu, n| {
        weights(gpu, (ty, rows, cols), n)?.into_iter().map(|w| call(gpu, w)).collect::<Result<Vec<_>>>()
    };
    let shape = format!("{rows} x {cols} x {tokens} {kind:?}").to_lowercase();
    Op { op: "matmul", variant: "chain", ty: Some(ty.name()), shape, bytes, flops, calls: Box::new(calls) }
}
