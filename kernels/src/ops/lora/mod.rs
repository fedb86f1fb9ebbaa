//! Low-rank adapters: `y = W x + scale B A x` with A `[rank, in]` and B `[out, rank]` (Hu et al. 2021,
//! arXiv:2106.09685), and their gradients.
//!
//! Six products of three forms. Those of a [`Pass`] sum over the width of a matrix (`t = scale x A^T` and
//! `dt = scale dy B`) or over tokens (`dA += scale dt^T x` and `dB += scale dy^T t`), [`up`] and [`grad_x`]
//! over the rank. All sums are taken in a fixed order.
//!
//! Adapters of matrices that share an input can share A: stacked by rank, one pass and one [`grad_x`] serves
//! them all, and each matrix has its columns of t.

pub mod cases;
pub mod coop;
pub mod reference;

use std::ops::Range;

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

use crate::compose::fragment;
use crate::layout::{Columns, Format};
use crate::select::BASELINE;
use crate::select::{self, CallShape};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub tokens: u32,
        pub ranks: u32,
        pub width: u32,
        pub narrow_stride: u32,
        pub narrow_column: u32,
        pub wide_stride: u32,
        pub wide_column: u32,
        pub grid_x: u32,
        pub flags: u32,
        pub scale: f32,
        pub pad: [u32; 2],
    }
}

const ADD: u32 = 2;

/// Sizes of an adapter's product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens of the batch.
    pub tokens: u32,
    /// Rank of the adapter, or of several stacked ones.
    pub rank: u32,
    /// Inputs of the matrix for A, outputs for B.
    pub width: u32,
}

/// A product's form, and whether its matrix is A `[rank, width]` or B `[width, rank]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `narrow[t, r] = scale sum_c wide[t, c] m(r, c)`
    Down,
    /// `wide[t, c] = scale sum_r narrow[t, r] m(r, c)`
    Up,
    /// `m(r, c) += scale sum_t narrow[t, r] wide[t, c]`
    Outer,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Down => "down",
            Form::Up => "up",
            Form::Outer => "outer",
        }
    }
}

/// The matrix of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// `[rank, width]`
    A,
    /// `[width, rank]`
    B,
}

/// What a product is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRankProduct {
    /// What is summed.
    pub form: Form,
    /// With which matrix.
    pub matrix: Matrix,
    /// Sizes.
    pub shape: Shape,
    /// Where rank 0 lies in the narrow operand.
    pub narrow: Columns,
    /// Where column 0 lies in the wide operand.
    pub wide: Columns,
    /// How the wide operand lies in memory.
    pub format: Format,
    /// Factor of the sum.
    pub scale: f32,
    /// Add to what the result holds; gradients of matrices always do.
    pub add: bool,
}

/// A kernel: what its text depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kernel {
    form: Form,
    matrix: Matrix,
    format: Format,
    /// Every size and offset is a multiple of 4.
    quads: bool,
}

/// Tokens of a tile of [`Form::Down`] and [`Form::Up`], rank quads of one of [`Form::Outer`].
const DOWN_TM: u32 = 4;
const UP_TM: u32 = 8;
const OUTER_RQ: u32 = 2;

impl Kernel {
    fn name(self) -> String {
        let quads = if self.quads { "quads" } else { "scalars" };
        format!("lora_{}_{:?}_{quads}_{}", self.form.name(), self.matrix, self.format.name()).to_lowercase()
    }

    fn shader(self) -> Shader {
        let (cells, put) = match self.quads {
            true => (include_str!("quads.wgsl"), include_str!("put_quads.wgsl")),
            false => (include_str!("scalars.wgsl"), include_str!("put_scalars.wgsl")),
        };
        let of = |text: &str, array: &str| fragment(text, &[("ARRAY", array)]);
        let wide = if self.format == Format::F16 { include_str!("halves.wgsl") } else { cells };
        let mut parts = vec![include_str!("params.wgsl").to_owned(), of(wide, "wide"), of(cells, "matrix")];
        let mut bindings = vec![Access::ReadWrite; 3];
        match self.form {
            Form::Down => {
                parts.extend([include_str!("down.wgsl"), include_str!("block.wgsl")].map(str::to_owned));
                bindings[2] = Access::Read;
            }
            Form::Up => {
                parts.extend([include_str!("up.wgsl"), include_str!("block.wgsl")].map(str::to_owned));
                parts.extend([of(cells, "narrow"), of(put, "wide")]);
                bindings[2] = Access::Read;
            }
            Form::Outer => {
                parts.extend([include_str!("outer.wgsl").to_owned(), of(cells, "narrow"), of(put, "matrix")]);
            }
        }
        let constants = [
            ("BY_RANK", u32::from(self.matrix == Matrix::A)),
            ("QUADS", u32::from(self.quads)),
            ("TM", if self.form == Form::Down { DOWN_TM } else { UP_TM }),
            ("RQ", OUTER_RQ),
        ];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Shader { name: self.name(), source: compose(&[], &constants, &parts), bindings }
    }

    /// Those that there are: f16 only where it is read, and by four.
    fn all() -> Vec<Kernel> {
        let mut all = Vec::new();
        for form in [Form::Down, Form::Up, Form::Outer] {
            for matrix in [Matrix::A, Matrix::B] {
                for quads in [false, true] {
                    all.push(Kernel { form, matrix, format: Format::F32, quads });
                }
                if form != Form::Up && matrix == Matrix::A {
                    all.push(Kernel { form, matrix, format: Format::F16, quads: true });
                }
            }
        }
        all
    }
}

impl LowRankProduct {
    /// Whether every size and offset is a multiple of 4.
    fn fours(&self) -> bool {
        let (n, w) = (self.narrow, self.wide);
        [self.shape.rank, self.shape.width, n.stride, n.column, w.stride, w.column]
            .iter()
            .all(|v| v.is_multiple_of(4))
    }

    /// The dispatches, by vectors of four where that is possible. Operands: narrow, wide, matrix.
    ///
    /// # Errors
    /// A row of an operand that exceeds a binding; f16 where sizes are no multiples of 4.
    fn plan(&self, budget: &Budget) -> std::result::Result<(Kernel, Vec<Dispatch<Params>>), PlanError> {
        let kernel = Kernel { form: self.form, matrix: self.matrix, format: self.format, quads: true };
        let columns = |c: Columns, n: u32| u64::from(c.column) + u64::from(n) <= u64::from(c.stride);
        let s = self.shape;
        if s.rank == 0 || s.width == 0 || !columns(self.narrow, s.rank) || !columns(self.wide, s.width) {
            let what = format!("rank {} x width {} in columns that do not hold them", s.rank, s.width);
            return Err(PlanError::Shape { op: "lora", what });
        }
        if self.fours()
            && let Ok(plan) = self.ranges(4, budget)
        {
            return Ok((kernel, plan));
        }
        if self.format == Format::F16 {
            let what = "f16 activations need sizes that are multiples of 4".into();
            return Err(PlanError::Shape { op: "lora", what });
        }
        Ok((Kernel { quads: false, ..kernel }, self.ranges(1, budget)?))
    }

    /// The dispatches, with the matrix cut at multiples of `unit` rows.
    fn ranges(&self, unit: u32, budget: &Budget) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
        let s = self.shape;
        let (rows, row) = match self.matrix {
            Matrix::A => (s.rank, u64::from(s.width) * 4),
            Matrix::B => (s.width, u64::from(s.rank) * 4),
        };
        let narrow_row = u64::from(self.narrow.stride) * 4;
        let wide_row = u64::from(self.wide.stride) * self.format.bytes();
        let tokens = split_rows("lora", s.tokens, &[narrow_row, wide_row], budget)?;
        let units = split_rows("lora", rows / unit, &[row * u64::from(unit)], budget)?;
        let mut plan = Vec::new();
        for t in &tokens {
            for u in &units {
                plan.push(self.dispatch(
                    t,
                    u.start * unit..u.end * unit,
                    [narrow_row, wide_row, row],
                    budget,
                ));
            }
        }
        Ok(plan)
    }

    fn dispatch(
        &self,
        t: &Range<u32>,
        m: Range<u32>,
        [narrow_row, wide_row, row]: [u64; 3],
        budget: &Budget,
    ) -> Dispatch<Params> {
        let s = self.shape;
        let (tokens, n) = (t.end - t.start, m.end - m.start);
        let (rank0, ranks, column0, width) = match self.matrix {
            Matrix::A => (m.start, n, 0, s.width),
            Matrix::B => (0, s.rank, m.start, n),
        };
        // A part of the matrix is a part of the sum where the sum goes over its rows.
        let (part, groups) = match self.form {
            Form::Down => {
                let tiles = tokens.div_ceil(DOWN_TM) * ranks.div_ceil(4);
                (column0 > 0, tiles.div_ceil(8))
            }
            Form::Up => (rank0 > 0, tokens.div_ceil(8 * UP_TM) * width.div_ceil(128)),
            Form::Outer => (true, ranks.div_ceil(4 * OUTER_RQ) * width.div_ceil(32)),
        };
        let add = self.add || part;
        let grid = fold(groups, budget);
        let bind = |operand, r: &Range<u32>, row: u64| Bind {
            operand,
            offset: u64::from(r.start) * row,
            size: u64::from(r.end - r.start) * row,
        };
        let (values, wide) = (f64::from(n) * row as f64, f64::from(tokens) * f64::from(width));
        let moved = wide * self.format.bytes() as f64 * if self.form == Form::Up && add { 2.0 } else { 1.0 };
        Dispatch {
            params: Params {
                tokens,
                ranks,
                width,
                narrow_stride: self.narrow.stride,
                narrow_column: self.narrow.column + rank0,
                wide_stride: self.wide.stride,
                wide_column: self.wide.column + column0,
                grid_x: grid[0],
                flags: if add { ADD } else { 0 },
                scale: self.scale,
                pad: [0; 2],
            },
            binds: vec![bind(0, t, narrow_row), bind(1, t, wide_row), bind(2, &m, row)],
            grid,
            cost: Cost {
                bytes: moved + values + f64::from(tokens) * f64::from(ranks) * 4.0,
                flops: 2.0 * wide * f64::from(ranks),
            },
        }
    }

    fn record(&self, rec: &mut Recorder, narrow: &Slice, wide: &Slice, matrix: &Slice) -> Result<()> {
        let (kernel, plan) = self.plan(rec.gpu().budget())?;
        let pipeline = rec.gpu().pipeline(&kernel.name(), || kernel.shader())?;
        record(rec, &pipeline, &[narrow, wide, matrix], &plan);
        Ok(())
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all: Vec<_> = Kernel::all().into_iter().map(|k| (k.shader(), Params::FIELDS)).collect();
    all.extend(coop::shaders());
    all
}

/// Where the matrix of an adapter lies in a wide operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Where its column 0 is.
    pub columns: Columns,
    /// Its inputs for A, its outputs for B.
    pub width: u32,
}

/// What a [`Pass`] is about, which says by which kernel it runs.
#[derive(Debug, Clone, Copy)]
pub struct PassShape<'a> {
    /// [`Form::Down`] or [`Form::Outer`], whose sums are added to what m holds.
    pub form: Form,
    /// Which matrix of the adapters.
    pub matrix: Matrix,
    /// Tokens of the batch.
    pub tokens: u32,
    /// Rank of each adapter, or of several stacked ones.
    pub rank: u32,
    /// Where rank 0 of the first adapter lies in the narrow operand; those of the others follow.
    pub narrow: Columns,
    /// How the wide operand lies in memory.
    pub format: Format,
    /// What each adapter has.
    pub windows: &'a [Window],
}

/// A sum over the width of matrices or over tokens, of one adapter or of several whose matrices share an
/// input.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Sizes and places.
    pub shape: PassShape<'a>,
    /// f32 `[tokens, stride]` of [`PassShape::narrow`].
    pub narrow: &'a Slice,
    /// `[tokens, stride]` of the windows' columns, in [`PassShape::format`].
    pub wide: &'a Slice,
    /// f32: the adapters' matrices one after the other, each at a multiple of the budget's alignment.
    pub m: &'a Slice,
    /// Factor of the sum.
    pub scale: f32,
    /// A power of two that brings gradients into the range of f16, where cooperative matrices round them: the narrow
    /// operand of A's gradient, otherwise the wide one, which has been multiplied by it already where it lies in tiles.
    pub range: f32,
    /// Activations for the parts of a sum that workgroups share; without, they do not.
    pub scratch: Option<&'a Slice>,
}

impl PassShape<'_> {
    /// Its name in the table of variants.
    fn op(&self) -> &'static str {
        match (self.form, self.matrix) {
            (Form::Outer, Matrix::A) => "lora_grad_a",
            (Form::Outer, Matrix::B) => "lora_grad_b",
            (_, Matrix::A) => "lora_down",
            (_, Matrix::B) => "lora_grad_t",
        }
    }

    fn variant(&self, caps: &Caps, budget: &Budget) -> &'static str {
        let can = |name: &str| name == BASELINE || coop::supports(caps, budget, self).is_ok();
        select::variant(self.op(), caps, CallShape::tokens(self.tokens), can)
    }

    /// Whether the device runs it with a wide operand in the tiles that [`PassShape::format`] says.
    pub fn takes_tiles(&self, caps: &Caps, budget: &Budget) -> bool {
        matches!(self.format, Format::Tiles { .. }) && self.variant(caps, budget) == "coop"
    }
}

impl Pass<'_> {
    /// Records it, with cooperative matrices where there are any.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses; f16 where sizes are no multiples of 4; tiles where
    /// [`PassShape::takes_tiles`] says no.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let variant = self.shape.variant(rec.gpu().caps(), rec.gpu().budget());
        self.record_as(rec, variant)
    }

    /// As [`Pass::record`], as `coop` or [`BASELINE`].
    ///
    /// # Errors
    /// As [`Pass::record`]; the device lacks what the variant needs.
    pub fn record_as(&self, rec: &mut Recorder, variant: &str) -> Result<()> {
        let s = self.shape;
        if variant == "coop" {
            return match coop::supports(rec.gpu().caps(), rec.gpu().budget(), &s) {
                Ok(kernel) => coop::run(rec, self, kernel),
                Err(why) => Err(PlanError::Shape { op: "lora", what: why.into() }.into()),
            };
        }
        if let Format::Tiles { .. } = s.format {
            let what = "only cooperative kernels of adapters read tiles".into();
            return Err(PlanError::Shape { op: "lora", what }.into());
        }
        let mut at = 0;
        for (j, w) in (0..).zip(s.windows) {
            let bytes = u64::from(w.width) * u64::from(s.rank) * 4;
            let product = LowRankProduct {
                form: s.form,
                matrix: s.matrix,
                shape: Shape { tokens: s.tokens, rank: s.rank, width: w.width },
                narrow: Columns { column: s.narrow.column + j * s.rank, ..s.narrow },
                wide: w.columns,
                format: s.format,
                scale: self.scale,
                add: s.form == Form::Outer,
            };
            product.record(rec, self.narrow, self.wide, &self.m.range(at, bytes))?;
            at += bytes;
        }
        Ok(())
    }
}

/// Records `y += scale t B^T`: t f32 `[tokens, stride]`, of which `rank` columns are read, B `[out, rank]`, y
/// `[tokens, stride]`, to `out` columns of which it is added.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn up(
    rec: &mut Recorder,
    (t, narrow): (&Slice, Columns),
    b: &Slice,
    (y, wide): (&Slice, Columns),
    scale: f32,
    shape: Shape,
) -> Result<()> {
    let (form, matrix, format) = (Form::Up, Matrix::B, Format::F32);
    LowRankProduct { form, matrix, shape, narrow, wide, format, scale, add: true }.record(rec, t, y, b)
}

/// Records the gradient of x, `dx = dt A`, with `add` added to what dx holds: dt f32 `[tokens, stride]`, of
/// which `rank` columns are read, A
/// `[rank, in]`, dx f32 `[tokens, in]`.
///
/// # Errors
/// As [`up`].
pub fn grad_x(
    rec: &mut Recorder,
    (dt, narrow): (&Slice, Columns),
    a: &Slice,
    dx: &Slice,
    shape: Shape,
    add: bool,
) -> Result<()> {
    let (form, matrix, wide) = (Form::Up, Matrix::A, Columns::all(shape.width));
    let format = Format::F32;
    LowRankProduct { form, matrix, shape, narrow, wide, format, scale: 1.0, add }.record(rec, dt, dx, a)
}
