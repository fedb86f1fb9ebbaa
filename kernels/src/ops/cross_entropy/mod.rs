//! Cross-entropy over a vocabulary, and its gradient with respect to the logits, in place.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub rows: u32,
        pub columns: u32,
        pub stride: u32,
        pub first: u32,
        pub column0: u32,
        pub row0: u32,
        pub grid_x: u32,
        pub flags: u32,
    }
}

/// The label of a row that has no loss.
pub const IGNORED: u32 = u32::MAX;

/// Bytes of a row's stats.
pub const STATS: u64 = 16;

/// What the loss tells of a row.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Stats {
    /// Negative log-likelihood of the label; 0 where there is none.
    pub loss: f32,
    /// 1 where no logit is larger than the label's.
    pub correct: u32,
    /// The largest logit.
    pub largest: f32,
    /// `log sum_i exp(x[i] - largest)`
    pub log_sum: f32,
}

const FIRST: u32 = 1;
const WG: u32 = 256;
/// Values that an invocation loads together.
const EACH: u32 = 8;

/// The dispatches of either sweep: ranges of rows, or where a row exceeds a binding, windows of each
/// row. Operands: logits, stats, and bound whole as well, labels and scale, `small` having the bytes of
/// stats and labels that are bound.
///
/// # Errors
/// Labels or stats that exceed a binding.
pub fn plan(
    rows: u32,
    vocab: u32,
    row0: u32,
    small: [u64; 2],
    gradient: bool,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let allowed = budget.max_binding;
    for (what, needed, each) in [("the stats", small[0], STATS), ("the labels", small[1], 4)] {
        if needed > allowed {
            return Err(PlanError::DoesNotFit { op: "cross_entropy", what, needed, allowed });
        }
        if needed < u64::from(row0 + rows) * each {
            let what = format!("{what} have {needed} bytes, which is fewer than {} rows", row0 + rows);
            return Err(PlanError::Shape { op: "cross_entropy", what });
        }
    }
    // First row, rows, first column, columns, and the bytes bound, from which on the first value lies
    // where.
    let mut parts = Vec::new();
    let row = u64::from(vocab) * 4;
    if let Ok(ranges) = split_rows("cross_entropy", rows, &[row], budget) {
        for r in ranges {
            let n = r.end - r.start;
            parts.push((r.start, n, 0, vocab, u64::from(r.start) * row, u64::from(n) * row, 0));
        }
    } else {
        for r in 0..rows {
            let start = u64::from(r) * row;
            let mut column = 0;
            while column < vocab {
                let at = start + u64::from(column) * 4;
                let offset = at / budget.align * budget.align;
                let first = ((at - offset) / 4) as u32;
                let columns = ((allowed / 4) as u32 - first).min(vocab - column);
                parts.push((r, 1, column, columns, offset, u64::from(first + columns) * 4, first));
                column += columns;
            }
        }
    }
    let dispatch = |(r, n, column0, columns, offset, size, first)| {
        let grid = fold(n, budget);
        let values = f64::from(n) * f64::from(columns);
        let mut binds =
            vec![Bind { operand: 0, offset, size }, Bind { operand: 1, offset: 0, size: small[0] }];
        if gradient {
            binds.push(Bind { operand: 2, offset: 0, size: small[1] });
            binds.push(Bind { operand: 3, offset: 0, size: 4 });
        }
        Dispatch {
            params: Params {
                rows: n,
                columns,
                stride: vocab,
                first,
                column0,
                row0: row0 + r,
                grid_x: grid[0],
                flags: if column0 == 0 { FIRST } else { 0 },
            },
            binds,
            grid,
            cost: Cost { bytes: values * if gradient { 8.0 } else { 4.0 }, flops: values * 8.0 },
        }
    };
    Ok(parts.into_iter().map(dispatch).collect())
}

fn shader(gradient: bool) -> Shader {
    let constants = [("WG", WG), ("EACH", EACH)];
    let shared = include_str!("params.wgsl");
    if gradient {
        let bindings = [[Access::ReadWrite; 2], [Access::Read; 2]].concat();
        let source = compose(&[], &constants, &[shared, include_str!("gradient.wgsl")]);
        return Shader { name: "cross_entropy_gradient_f32".into(), source, bindings };
    }
    let parts = [shared, include_str!("../../wgsl/reduce.wgsl"), include_str!("sums.wgsl")];
    let source = compose(&[], &constants, &parts);
    Shader { name: "cross_entropy_sums_f32".into(), source, bindings: vec![Access::ReadWrite; 2] }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [false, true].map(|gradient| (shader(gradient), Params::FIELDS)).into()
}

/// The operands of a loss of `rows` rows of logits, which become its gradient times a scale:
/// `(softmax - one_hot(label)) scale`. Row r has its label and its [`Stats`] at `row0 + r`, so that a head can run in
/// parts. A row labelled [`IGNORED`] has a loss and a gradient of 0. Labels and scale lie outside of the activations.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy<'a> {
    /// The logits, then their gradient, `[rows, vocab]` f32.
    pub logits: &'a Slice,
    /// Labels, `[..]` u32.
    pub labels: &'a Slice,
    /// [`Stats`] of each row, `[..]`.
    pub stats: &'a Slice,
    /// What the gradient is multiplied by, `[1]` f32.
    pub scale: &'a Slice,
    /// The first row's place among labels and stats.
    pub row0: u32,
    /// Rows.
    pub rows: u32,
    /// Logits of a row.
    pub vocab: u32,
}

impl CrossEntropy<'_> {
    /// Records it.
    ///
    /// # Errors
    /// Stats or labels that exceed a binding or are too few, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let CrossEntropy { logits, labels, stats, scale, row0, rows, vocab } = *self;
        let small = [stats.size(), labels.size()];
        for gradient in [false, true] {
            let s = shader(gradient);
            let pipeline = rec.gpu().pipeline(&s.name.clone(), || s)?;
            let plan = plan(rows, vocab, row0, small, gradient, rec.gpu().budget())?;
            record(rec, &pipeline, &[logits, stats, labels, scale], &plan);
        }
        Ok(())
    }
}
