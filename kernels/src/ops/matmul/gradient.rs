//! The input gradient of a product, `dx = dy w`, from the same planes as the product itself: where
//! [`linear`](super::linear) walks the columns of a weight, this walks its rows.

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use super::{ADD, Columns, Params, Variant};
use crate::ops::{WEIGHT, slab_operands, with_dequant};
use crate::{
    Bind, Budget, Dispatch, Fields, PlanError, Result, Weight, WeightShape, WeightType, compose, record,
    split_rows,
};

/// A kernel with the constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Tiled(Tile),
}

/// A register tile in f32; constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Tokens.
    bm: u32,
    /// Columns.
    bn: u32,
    /// Rows at a time: so many that half of the invocations have one unit of weights each.
    bk: u32,
    /// Tokens of an invocation.
    tm: u32,
    /// Columns of an invocation.
    tn: u32,
}

/// What every device runs.
const SMALL: Tile = Tile { bm: 64, bn: 64, bk: 32, tm: 4, tn: 4 };
/// Twice the work for each value read from workgroup memory, for devices with registers to spare.
const LARGE: Tile = Tile { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 };

impl Kernel {
    /// Those of a variant.
    pub(super) fn all(_variant: Variant) -> Vec<Kernel> {
        [SMALL, LARGE].map(Kernel::Tiled).into()
    }

    fn pick(caps: &Caps, tokens: u32) -> Kernel {
        Kernel::Tiled(if caps.kind == DeviceKind::Discrete && tokens > 64 { LARGE } else { SMALL })
    }

    /// Its tile.
    pub(super) fn tile_name(self) -> String {
        match self {
            Kernel::Tiled(t) => format!("{}x{}", t.bm, t.bn),
        }
    }

    fn name(self, ty: WeightType) -> String {
        format!("matmul_dx_{}_{ty}", self.tile_name())
    }

    fn shader(self, ty: WeightType) -> Shader {
        let bindings = [&WEIGHT[..], &[Access::ReadWrite; 2]].concat();
        let source = match self {
            Kernel::Tiled(t) => {
                let constants = [
                    ("WG", t.bm / t.tm * (t.bn / t.tn)),
                    ("BM", t.bm),
                    ("BN", t.bn),
                    ("BK", t.bk),
                    ("TM", t.tm),
                    ("TN", t.tn),
                    ("TQ", t.tn / 4),
                ];
                compose(&[], &constants, &with_dequant(ty, include_str!("gradient.wgsl")))
            }
        };
        Shader { name: self.name(ty), source, bindings }
    }

    /// Tokens and columns of a workgroup.
    fn tile(self) -> (u32, u32) {
        match self {
            Kernel::Tiled(t) => (t.bm, t.bn),
        }
    }
}

/// One dispatch for each range of tokens whose rows of dy and dx fit a binding. Operands: slab, slab,
/// dy, dx.
fn plan(
    w: &WeightShape,
    slab: usize,
    tokens: u32,
    kernel: Kernel,
    dy: Columns,
    flags: u32,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let row_bytes = [u64::from(dy.stride) * 4, u64::from(w.cols) * 4];
    let (bm, bn) = kernel.tile();
    Ok(split_rows("matmul_dx", tokens, &row_bytes, budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let part = |operand: usize| {
                let row = row_bytes[operand - 2];
                Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row }
            };
            let whole = |operand| Bind { operand, offset: 0, size: s.bytes };
            Dispatch {
                params: Params {
                    planes: s.planes,
                    row0: s.rows.start,
                    rows,
                    units: w.units(),
                    y_stride: dy.stride,
                    flags,
                    extent: n,
                    column: dy.column,
                    pad: 0,
                },
                binds: vec![whole(0), whole(1), part(2), part(3)],
                grid: [n.div_ceil(bm), w.cols.div_ceil(bn), 1],
                cost: Cost {
                    bytes: s.bytes as f64 + f64::from(n) * (row_bytes[0] + row_bytes[1]) as f64,
                    flops: 2.0 * f64::from(n) * f64::from(rows) * f64::from(w.cols),
                },
            }
        })
        .collect())
}

/// Every shader of the gradient with its parameters' fields.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let kernels = Kernel::all(Variant::Tiled);
    let of = |kernel: Kernel| WeightType::ALL.iter().map(move |&ty| (kernel.shader(ty), Params::FIELDS));
    kernels.into_iter().flat_map(of).collect()
}

/// Records `dx = dy w` for `tokens` rows: dy f32 `[tokens, columns.stride]`, of which the weight's
/// outputs begin at `columns.column`; dx f32 `[tokens, cols]`. With `add`, dx keeps what it holds and
/// the product is added: what several matrices that share an input need.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn linear_gradient(
    rec: &mut Recorder,
    w: &Weight,
    (dy, columns): (&Slice, Columns),
    dx: &Slice,
    tokens: u32,
    add: bool,
) -> Result<()> {
    let kernel = Kernel::pick(rec.gpu().caps(), tokens);
    linear_gradient_with(rec, kernel, w, (dy, columns), dx, tokens, add)
}

/// As [`linear_gradient`], with one kernel.
pub(super) fn linear_gradient_with(
    rec: &mut Recorder,
    kernel: Kernel,
    w: &Weight,
    (dy, columns): (&Slice, Columns),
    dx: &Slice,
    tokens: u32,
    add: bool,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let ty = w.shape.ty;
    let pipeline = gpu.pipeline(&kernel.name(ty), || kernel.shader(ty))?;
    for slab in 0..w.slices.len() {
        let [a, b] = slab_operands(w, slab);
        // A slab has some of the rows, over which the sum goes on.
        let flags = if add || slab > 0 { ADD } else { 0 };
        let plan = plan(&w.shape, slab, tokens, kernel, columns, flags, gpu.budget())?;
        record(rec, &pipeline, &[a, b, dy, dx], &plan);
    }
    Ok(())
}
