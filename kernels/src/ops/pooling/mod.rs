//! From the rows of packed sequences to a vector each: pooling, and L2 normalisation.

pub mod cases;
pub mod reference;

use std::ops::Range;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub sequences: u32,
        pub sequence0: u32,
        pub first: u32,
        pub there: u32,
        pub width: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

params! {
    /// Parameters of the normalisation.
    pub struct NormalizeParams {
        pub rows: u32,
        pub cols: u32,
        pub grid_x: u32,
        pub pad: u32,
    }
}

const WG: u32 = 256;

/// Which rows of a sequence make its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean over all of its tokens.
    Mean,
    /// Its first token's.
    First,
    /// Its last token's.
    Last,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Pooling; 3] = [Pooling::Mean, Pooling::First, Pooling::Last];

    fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::First => "first",
            Pooling::Last => "last",
        }
    }
}

/// A vector for each of several sequences that lie one after the other.
#[derive(Debug, Clone, Copy)]
pub struct PoolRows<'a> {
    /// `[tokens, width]` f32 activations.
    pub x: &'a Slice,
    /// `[sequences]` of two u32, outside of the activations: the first token of a sequence and one past its last; none
    /// is empty.
    pub bounds: &'a Slice,
    /// `[sequences, width]` f32 activations.
    pub y: &'a Slice,
    /// Which rows count.
    pub pooling: Pooling,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Sequences of the batch.
    pub sequences: u32,
    /// Values of a row.
    pub width: u32,
}

impl PoolRows<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let pipeline = rec.gpu().pipeline(&name(self.pooling), || shader(self.pooling))?;
        let plan = plan([self.tokens, self.sequences, self.width], rec.gpu().budget())?;
        record(rec, &pipeline, &[self.bounds, self.x, self.y], &plan);
        Ok(())
    }
}

/// Rows divided by their Euclidean length, in place: `x /= max(|x|, 1e-12)`.
#[derive(Debug, Clone, Copy)]
pub struct Normalize<'a> {
    /// `[rows, cols]` f32 activations.
    pub x: &'a Slice,
    /// Vectors.
    pub rows: u32,
    /// Values of a vector.
    pub cols: u32,
}

impl Normalize<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let pipeline = rec.gpu().pipeline(NORMALIZE, normalize_shader)?;
        let plan = plan_normalize([self.rows, self.cols], rec.gpu().budget())?;
        record(rec, &pipeline, &[self.x], &plan);
        Ok(())
    }
}

/// Where rows of `width` f32 lie.
fn part(operand: usize, rows: &Range<u32>, width: u32) -> Bind {
    let row = u64::from(width) * 4;
    let n = u64::from(rows.end - rows.start);
    Bind { operand, offset: u64::from(rows.start) * row, size: n * row }
}

/// The dispatches: of each part of y, each part of x in order. Operands: bounds, x, y.
///
/// # Errors
/// A row or the bounds that exceed a binding.
pub fn plan(
    [tokens, sequences, width]: [u32; 3],
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let bounds = u64::from(sequences) * 8;
    if bounds > budget.max_binding {
        let (needed, allowed) = (bounds, budget.max_binding);
        return Err(PlanError::DoesNotFit { op: "pool", what: "the bounds", needed, allowed });
    }
    let row = [u64::from(width) * 4];
    let mut all = Vec::new();
    for y in split_rows("pool", sequences, &row, budget)? {
        for x in split_rows("pool", tokens, &row, budget)? {
            let n = y.end - y.start;
            let grid = fold(n, budget);
            let values = f64::from(x.end - x.start) * f64::from(width);
            all.push(Dispatch {
                params: Params {
                    sequences: n,
                    sequence0: y.start,
                    first: x.start,
                    there: x.end - x.start,
                    width,
                    grid_x: grid[0],
                    pad: [0; 2],
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: bounds },
                    part(1, &x, width),
                    part(2, &y, width),
                ],
                grid,
                cost: Cost { bytes: values * 4.0, flops: values },
            });
        }
    }
    Ok(all)
}

/// The dispatches of the normalisation. Operand: x.
///
/// # Errors
/// A row that exceeds a binding.
pub fn plan_normalize(
    [rows, cols]: [u32; 2],
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<NormalizeParams>>, PlanError> {
    let dispatch = |r: Range<u32>| {
        let n = r.end - r.start;
        let grid = fold(n, budget);
        let values = f64::from(n) * f64::from(cols);
        Dispatch {
            params: NormalizeParams { rows: n, cols, grid_x: grid[0], pad: 0 },
            binds: vec![part(0, &r, cols)],
            grid,
            cost: Cost { bytes: values * 8.0, flops: values * 4.0 },
        }
    };
    Ok(split_rows("normalize", rows, &[u64::from(cols) * 4], budget)?.into_iter().map(dispatch).collect())
}

fn name(pooling: Pooling) -> String {
    format!("pool_{}", pooling.name())
}

fn shader(pooling: Pooling) -> Shader {
    let constants = [
        ("WG", WG),
        ("MEAN", u32::from(pooling == Pooling::Mean)),
        ("FIRST", u32::from(pooling == Pooling::First)),
    ];
    Shader {
        name: name(pooling),
        source: compose(&[], &constants, &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::Read, Access::ReadWrite, Access::ReadWrite],
    }
}

const NORMALIZE: &str = "normalize_f32";

fn normalize_shader() -> Shader {
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("normalize.wgsl")];
    Shader {
        name: NORMALIZE.into(),
        source: compose(&[], &[("WG", WG)], &parts),
        bindings: vec![Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let pools = Pooling::ALL.into_iter().map(|p| (shader(p), Params::FIELDS));
    pools.chain([(normalize_shader(), NormalizeParams::FIELDS)]).collect()
}
