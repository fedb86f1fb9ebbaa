//! Activations from rows into the tiles that cooperative products load straight into matrices.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::{Columns, Format, split_tokens};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record};

params! {
    pub struct Params {
        pub rows: u32,
        pub cols: u32,
        pub stride: u32,
        pub column: u32,
        pub grid_x: u32,
        pub scale: f32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 256;

/// What is moved.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// `[rows, columns.stride]` f32 or f16.
    pub x: &'a Slice,
    /// Which of the two: [`Format::F32`] or [`Format::F16`].
    pub from: Format,
    /// Where the columns lie in it.
    pub columns: Columns,
    /// f16 `[rows / side, cols / side, side, side]`, its rows rounded up to whole tiles.
    pub y: &'a Slice,
    /// Rows.
    pub rows: u32,
    /// Columns, a multiple of the side.
    pub cols: u32,
    /// Rows and columns of a tile: 8 or 16.
    pub side: u32,
    /// What values are multiplied by before they are rounded.
    pub scale: f32,
}

impl Tile<'_> {
    /// The dispatches. Operands: x, y.
    ///
    /// # Errors
    /// Columns that are no whole tiles, a row of tiles that exceeds a binding.
    fn plan(&self, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
        let Columns { stride, column } = self.columns;
        if matches!(self.from, Format::Tiles { .. }) {
            let what = "the rows are tiles already".into();
            return Err(PlanError::Shape { op: "tile", what });
        }
        if !self.cols.is_multiple_of(self.side) || !stride.is_multiple_of(4) || !column.is_multiple_of(4) {
            let what = format!("{} columns from {column} on of {stride} make no tiles", self.cols);
            return Err(PlanError::Shape { op: "tile", what });
        }
        let out = Format::Tiles { side: self.side };
        let (row, out_row) = (u64::from(stride) * self.from.bytes(), u64::from(self.cols) * out.bytes());
        let dispatch = |r: std::ops::Range<u32>| {
            let n = r.end - r.start;
            let grid = fold((n * (self.cols / 4)).div_ceil(WG), budget);
            let part =
                |operand, n: u64, row: u64| Bind { operand, offset: u64::from(r.start) * row, size: n * row };
            let params = Params {
                rows: n,
                cols: self.cols,
                stride,
                column,
                grid_x: grid[0],
                scale: self.scale,
                pad: [0; 2],
            };
            let values = f64::from(n) * f64::from(self.cols);
            Dispatch {
                params,
                binds: vec![part(0, n.into(), row), part(1, out.rows(n), out_row)],
                grid,
                cost: Cost { bytes: values * (self.from.bytes() + out.bytes()) as f64, flops: values },
            }
        };
        let ranges = split_tokens("tile", self.rows, &[row, out_row], out, budget)?;
        Ok(ranges.into_iter().map(dispatch).collect())
    }

    /// Records `y = f16(scale x)` in tiles. Values beyond f16 become the largest there is.
    ///
    /// # Errors
    /// Columns that are no whole tiles, no plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let plan = self.plan(rec.gpu().budget())?;
        let pipeline = rec.gpu().pipeline(&name(self.from, self.side), || shader(self.from, self.side))?;
        record(rec, &pipeline, &[self.x, self.y], &plan);
        Ok(())
    }
}

fn name(from: Format, side: u32) -> String {
    let half = if from == Format::F16 { "_xf16" } else { "" };
    format!("tile_{side}{half}")
}

fn shader(from: Format, side: u32) -> Shader {
    let (fragment, enables) = Format::Tiles { side }.out();
    let constants = [("WG", WG), ("HALF", u32::from(from == Format::F16))];
    Shader {
        name: name(from, side),
        source: compose(enables, &constants, &[include_str!("kernel.wgsl"), fragment]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let from = |from| [8, 16].map(|side| (shader(from, side), Params::FIELDS));
    [Format::F32, Format::F16].into_iter().flat_map(from).collect()
}
