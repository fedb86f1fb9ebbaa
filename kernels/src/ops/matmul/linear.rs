//! Records products: by the variant that the table gives, or by one of choice.

use weft_runtime::{Cost, Recorder, Slice};

use super::matvec::Matvec;
use super::operands::{ADD, Epilogue, HAS_BIAS, Input, Params};
use super::pick::tiled;
use super::product::{self, norm_after};
use super::tiles::Kernel;
use super::variant::{Direction, Variant};
use crate::layout::{Columns, Format};
use crate::ops::{quantize, slab_operands};
use crate::{Bind, Budget, Dispatch, Result, Weight, WeightShape, fold, record};

/// The dispatch of a matvec kernel, which takes all tokens at once. Operands: slab, slab, bias, x (its
/// integers and their scales for the integer kernel), y.
fn plan(
    w: &WeightShape,
    slab: usize,
    (variant, kernel): (Variant, Matvec),
    y: Columns,
    flags: u32,
    bias_bytes: u64,
    budget: &Budget,
) -> Dispatch<Params> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let n = u64::from(kernel.tokens);
    let (x_bytes, y_bytes) = (u64::from(w.cols) * 4 * n, u64::from(y.stride) * 4 * n);
    let mut sizes = vec![s.bytes, s.bytes, bias_bytes, y_bytes];
    match variant {
        Variant::MatvecDot => {
            let (q, meta) = quantize::bytes(u64::from(w.cols) * n);
            sizes.extend([q, meta]);
        }
        _ => sizes.push(x_bytes),
    }
    let grid = fold(rows.div_ceil(kernel.rows_per_group()), budget);
    Dispatch {
        params: Params {
            planes: s.planes,
            row0: s.rows.start,
            rows,
            units: w.units(),
            y_stride: y.stride,
            flags,
            extent: grid[0],
            column: y.column,
            eps: 0.0,
        },
        binds: (0..).zip(sizes).map(|(operand, size)| Bind { operand, offset: 0, size }).collect(),
        grid,
        cost: Cost {
            bytes: s.bytes as f64 + (x_bytes + y_bytes) as f64,
            flops: 2.0 * n as f64 * f64::from(rows) * f64::from(w.cols),
        },
    }
}

/// Records `y = x w^T`, with the epilogue, for `tokens` rows of x, as the variant that
/// [`Variant::pick`] gives; the integer one only if x comes with integers.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn linear(
    rec: &mut Recorder,
    w: &Weight,
    x: Input<'_>,
    (y, columns): (&Slice, Columns),
    tokens: u32,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let variant = match Variant::pick(rec.gpu().caps(), w.shape.ty, tokens) {
        _ if matches!(x.format, Format::Tiles { .. }) => tiled(rec.gpu().caps(), &w.shape, tokens),
        Variant::MatvecDot if x.ints.is_none() => Variant::Matvec,
        Variant::TiledDot if x.ints.is_none() => Variant::Tiled,
        v => v,
    };
    linear_as(rec, variant, w, x, (y, columns), tokens, epilogue)
}

/// As [`linear`], as `variant`, which the device must support.
///
/// # Errors
/// As [`linear`].
pub fn linear_as(
    rec: &mut Recorder,
    variant: Variant,
    w: &Weight,
    x: Input<'_>,
    (y, columns): (&Slice, Columns),
    tokens: u32,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    // Few tokens of a tensor that is huge for this budget are split like many.
    let widest = u64::from(w.shape.cols.max(columns.stride)) * 4;
    let whole = u64::from(tokens) * widest <= gpu.budget().max_binding;
    let variant = if variant.few() && !whole { Variant::Tiled } else { variant };
    if !variant.few() {
        let kernel = Kernel::pick(
            variant,
            Direction::Forward,
            (x.format, w.shape.ty),
            gpu.caps(),
            w.shape.rows,
            tokens,
        );
        return product::forward(rec, kernel, w, x, (y, columns), tokens, epilogue);
    }
    let constants = Matvec::tuned(gpu.caps(), variant, w.shape.ty, w.shape.rows, w.shape.cols, tokens);
    matvec_with(rec, (variant, constants), w, x, (y, columns), epilogue)?;
    if let Some(low) = epilogue.low {
        low.up(rec, (y, columns), w.shape.rows, tokens)?;
    }
    norm_after(rec, y, w.shape.rows, tokens, epilogue)
}

/// The product of a few tokens, as many as the constants say, by a kernel with these constants.
///
/// # Errors
/// As [`linear`].
pub fn matvec_with(
    rec: &mut Recorder,
    (variant, kernel): (Variant, Matvec),
    w: &Weight,
    x: Input<'_>,
    (y, columns): (&Slice, Columns),
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let ty = w.shape.ty;
    let flags = if epilogue.bias.is_some() { HAS_BIAS } else { 0 } | if epilogue.add { ADD } else { 0 };
    let pipeline = gpu.pipeline(&kernel.name(variant, ty), || kernel.shader(variant, ty))?;
    for slab in 0..w.slices.len() {
        let [a, b] = slab_operands(w, slab);
        // Without a bias the slab stands in for it: bound, never read.
        let bias = epilogue.bias.unwrap_or(a);
        let plan = plan(&w.shape, slab, (variant, kernel), columns, flags, bias.size(), gpu.budget());
        match (variant, x.ints) {
            (Variant::MatvecDot, Some(ints)) => {
                record(rec, &pipeline, &[a, b, bias, y, &ints.q, &ints.meta], &[plan]);
            }
            _ => record(rec, &pipeline, &[a, b, bias, y, x.x], &[plan]),
        }
    }
    Ok(())
}
