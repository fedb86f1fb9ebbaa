//! The product of an adapter beside that of its matrix.

use weft_runtime::{Recorder, Slice};

use super::tiles::Kernel;
use super::variant::Variant;
use crate::Result;
use crate::layout::Columns;
use crate::ops::lora;

/// An adapter's product, `t m`, that is added to the product of its matrix: by the same kernel where that
/// is cooperative, by one of its own elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// f32 `[tokens, columns.stride]`.
    pub t: &'a Slice,
    /// Where the adapter's ranks lie in it.
    pub columns: Columns,
    /// f32: forward B `[outputs, rank]`, backward A `[rank, inputs]`.
    pub m: &'a Slice,
    /// Ranks.
    pub rank: u32,
    /// Forward, of several matrices that are stacked: the rows at which the second and the third one's
    /// adapters begin, whose ranks follow in t; `u32::MAX` where there are none.
    pub bounds: [u32; 2],
}

impl LowRank<'_> {
    /// Whether a kernel can add it, to a product of `outputs`.
    pub(super) fn joins(&self, kernel: Kernel, outputs: u32) -> bool {
        let fours = [self.rank, self.columns.stride, self.columns.column, outputs];
        let (_, bn) = kernel.tile();
        matches!(kernel.variant(), Variant::Coop | Variant::Direct)
            && fours.iter().all(|v| v.is_multiple_of(4))
            && self.bounds.iter().all(|&b| b == u32::MAX || b.is_multiple_of(bn))
    }

    /// By kernels of its own, forward.
    pub(super) fn up(
        &self,
        rec: &mut Recorder,
        (y, columns): (&Slice, Columns),
        rows: u32,
        tokens: u32,
    ) -> Result<()> {
        let ends = self.bounds.map(|b| b.min(rows));
        let starts = [0, ends[0], ends[1]];
        for (i, (from, to)) in (0..).zip(starts.into_iter().zip([ends[0], ends[1], rows])) {
            if from == to {
                continue;
            }
            let t = Columns { column: self.columns.column + i * self.rank, ..self.columns };
            let row = u64::from(self.rank) * 4;
            let m = self.m.range(u64::from(from) * row, u64::from(to - from) * row);
            let y = (y, Columns { column: columns.column + from, ..columns });
            lora::up(
                rec,
                (self.t, t),
                &m,
                y,
                1.0,
                lora::Shape { tokens, rank: self.rank, width: to - from },
            )?;
        }
        Ok(())
    }
}
