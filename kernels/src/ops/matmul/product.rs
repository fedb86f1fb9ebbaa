//! Records the products of many tokens: a kernel's dispatches, an adapter's product that joins its sum,
//! and the parts of a sum that workgroups share.

use weft_runtime::{Recorder, Slice};

use super::low_rank::LowRank;
use super::operands::{ADD, Epilogue, HAS_BIAS, Input};
use super::plan::{LowShape, ProductShape, plan};
use super::tiles::Kernel;
use super::variant::{Direction, Variant};
use crate::layout::{Columns, Format};
use crate::ops::split_k::{self, SLOTS};
use crate::ops::{lora, rmsnorm, slab_operands};
use crate::plan::record_specialised;
use crate::select::{self, CallShape, MATVEC_TOKENS};
use crate::{PlanError, Result, Weight, record};

/// Parts of a sum, where scratch is there and workgroups are few.
fn share(
    rec: &Recorder,
    kernel: Kernel,
    [tokens, outputs, depth]: [u32; 3],
    scratch: Option<&Slice>,
) -> (u32, u32) {
    let whole = (1, depth.next_multiple_of(256));
    let (bk, Some(scratch)) = (kernel.depth(), scratch) else { return whole };
    let Some((bk, least)) = bk else { return whole };
    let budget = rec.gpu().budget();
    if !outputs.is_multiple_of(4) || u64::from(tokens) * u64::from(depth) * 4 > budget.max_binding {
        return whole;
    }
    let (bm, bn) = kernel.tile();
    let tiles = tokens.div_ceil(bm) * outputs.div_ceil(bn);
    let bytes = u64::from(tokens) * u64::from(outputs) * 4;
    let room = scratch.size().min(budget.max_binding);
    match split_k::share(rec.gpu().caps(), tiles, (depth, bk, least), bytes, room) {
        (1, _) => whole,
        shared => shared,
    }
}

fn low_shape(l: LowRank<'_>) -> LowShape {
    LowShape { ranks: l.rank, columns: l.columns, bounds: l.bounds, bytes: l.m.size() }
}

/// Refuses a left side or a shape that the kernel does not take.
fn check(kernel: Kernel, w: &Weight, x: Format, columns: Columns) -> std::result::Result<(), PlanError> {
    let tiles = matches!(x, Format::Tiles { .. });
    let fits = match kernel {
        Kernel::Direct(d) => tiles && d.takes(&w.shape, columns),
        Kernel::Sliced(s) => tiles && s.takes(&w.shape, columns),
        _ => !tiles,
    };
    let what =
        || format!("{} does not take {x:?} and {} x {}", kernel.tile_name(), w.shape.rows, w.shape.cols);
    if fits { Ok(()) } else { Err(PlanError::Shape { op: "matmul", what: what() }) }
}

/// Records `y = x w^T`, with the epilogue, with a kernel that the device supports.
///
/// # Errors
/// As [`linear`](super::linear).
pub fn forward(
    rec: &mut Recorder,
    kernel: Kernel,
    w: &Weight,
    x: Input<'_>,
    (y, columns): (&Slice, Columns),
    tokens: u32,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let budget = gpu.budget();
    let flags = if epilogue.bias.is_some() { HAS_BIAS } else { 0 } | if epilogue.add { ADD } else { 0 };
    let direction = Direction::Forward;
    let one = w.slices.len() == 1;
    let rows = w.shape.rows;
    check(kernel, w, x.format, Columns::all(rows))?;
    let whole = ProductShape {
        direction,
        kernel,
        x: x.format,
        tokens,
        columns,
        flags,
        scale: 1.0,
        parts: (1, w.shape.cols.next_multiple_of(256)),
        padded: false,
        low: None,
    };
    // What is not cut can be shared among workgroups, and joined by an adapter.
    let uncut = one && plan(&w.shape, 0, &whole, 0, budget)?.len() == 1;
    let scratch = epilogue.scratch.filter(|_| uncut && epilogue.bias.is_none());
    let shared = share(rec, kernel, [tokens, rows, w.shape.cols], scratch);
    let joined = epilogue.low.filter(|l| uncut && l.joins(kernel, rows));
    let low = joined.map(low_shape);
    let part = match shared.0 {
        1 => None,
        count => {
            let bytes = u64::from(count) * u64::from(tokens) * u64::from(rows) * 4;
            scratch.map(|s| s.range(0, bytes))
        }
    };
    let (bm, _) = kernel.tile();
    let padded_bytes = u64::from(tokens.next_multiple_of(bm)) * u64::from(columns.stride) * 4;
    let padded = matches!(kernel, Kernel::Direct(_))
        && uncut
        && (padded_bytes..=budget.max_binding).contains(&y.size());
    let shared_shape = match part {
        None => ProductShape { low, padded, ..whole },
        Some(_) => ProductShape { columns: Columns::all(rows), flags: 0, parts: shared, low, ..whole },
    };
    let to = part.as_ref().unwrap_or(y);
    let (ty, format) = (w.shape.ty, x.format);
    for slab in 0..w.slices.len() {
        let [a, b] = slab_operands(w, slab);
        // Without a bias the slab stands in for it: bound, never read.
        let bias = epilogue.bias.unwrap_or(a);
        let plan = plan(&w.shape, slab, &shared_shape, bias.size(), budget)?;
        let mut operands = vec![a, b, x.x, to, bias];
        if let (Kernel::TiledDot(_), Some(ints)) = (kernel, x.ints) {
            operands[2] = &ints.q;
            operands.push(&ints.meta);
        }
        operands.extend(joined.iter().flat_map(|l| [l.t, l.m]));
        for (aligned, plan) in
            kernel.by_alignment([w.shape.slabs[slab].count(), w.shape.cols], shared_shape.padded, plan)
        {
            let name = kernel.name(direction, ty, format, aligned, low.is_some());
            let shader = || kernel.shader(direction, ty, format, aligned, low.is_some());
            if epilogue.specialised && matches!(kernel, Kernel::Coop(_)) {
                record_specialised(rec, &name, shader, &operands, &plan)?;
            } else {
                let pipeline = gpu.pipeline(&name, shader)?;
                record(rec, &pipeline, &operands, &plan);
            }
        }
    }
    let apart = epilogue.low.filter(|_| joined.is_none());
    if let Some(part) = &part {
        let shape = [shared.0, tokens, rows];
        // Its parameters are in its text, which prompts of every length would fill a cache with.
        let sums = epilogue.add && apart.is_none() && tokens <= SLOTS && rmsnorm::sums(shape, budget);
        if let Some(norm) = epilogue.norm.filter(|_| sums) {
            return rmsnorm::summed(rec, part, y, norm, shape);
        }
        split_k::sum_splits(rec, part, shape, (y, columns), 1.0, epilogue.add)?;
    }
    if let Some(low) = apart {
        low.up(rec, (y, columns), rows, tokens)?;
    }
    norm_after(rec, y, rows, tokens, epilogue)
}

/// What a gradient arrives with.
#[derive(Debug, Clone, Copy)]
pub struct Gradient<'a> {
    /// `[tokens, columns.stride]`, f32; in tiles times `scale`, for [`Variant::Direct`].
    pub dy: &'a Slice,
    /// How it lies in memory.
    pub format: Format,
    /// Where the weight's outputs lie in it.
    pub columns: Columns,
    /// A power of two that brings dy into the range of f16, 6e-8 to 65504, where cooperative matrices
    /// round it: about the reciprocal of its largest value. 1 where the loss is scaled already.
    pub scale: f32,
    /// The gradient of an adapter's t, and its A.
    pub low: Option<LowRank<'a>>,
    /// Activations for the parts of a sum that workgroups share; without, they do not.
    pub scratch: Option<&'a Slice>,
}

impl<'a> Gradient<'a> {
    /// Without an adapter.
    pub fn new(dy: &'a Slice, columns: Columns, scale: f32) -> Gradient<'a> {
        Gradient { dy, format: Format::F32, columns, scale, low: None, scratch: None }
    }
}

/// Records `dx = dy w` for `tokens` rows, dx f32 `[tokens, cols]`. With `add`, dx keeps what it holds
/// and the product is added: what several matrices that share an input need.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn linear_gradient(
    rec: &mut Recorder,
    w: &Weight,
    dy: Gradient<'_>,
    dx: &Slice,
    tokens: u32,
    add: bool,
) -> Result<()> {
    let caps = rec.gpu().caps();
    let direction = Direction::Gradient;
    let coop =
        Variant::Coop.supports(caps, w.shape.ty, MATVEC_TOKENS + 1).is_ok() && vec4_aligned(w, dy.columns);
    let can = |name: &str| name == "tiled" || name == "coop" && coop;
    let picked = || select::variant(direction.op(), caps, CallShape::tokens(tokens), can);
    let variant = match dy.format {
        Format::Tiles { .. } => Variant::Direct,
        _ if picked() == "coop" => Variant::Coop,
        _ => Variant::Tiled,
    };
    let kernel = Kernel::pick(variant, direction, (dy.format, w.shape.ty), caps, w.shape.cols, tokens);
    gradient(rec, kernel, w, dy, dx, tokens, add)
}

/// Whether the rows of a weight begin at a multiple of four values in dy, as vec4 loads need.
fn vec4_aligned(w: &Weight, columns: Columns) -> bool {
    let starts = w.shape.slabs.iter().all(|s| s.rows.start.is_multiple_of(4));
    starts && columns.stride.is_multiple_of(4) && columns.column.is_multiple_of(4)
}

/// As [`linear_gradient`], with a kernel that the device supports.
///
/// # Errors
/// As [`linear_gradient`].
pub fn gradient(
    rec: &mut Recorder,
    kernel: Kernel,
    w: &Weight,
    dy: Gradient<'_>,
    dx: &Slice,
    tokens: u32,
    add: bool,
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let budget = gpu.budget();
    let (ty, direction, x, cols) = (w.shape.ty, Direction::Gradient, dy.format, w.shape.cols);
    check(kernel, w, x, dy.columns)?;
    let mut joined = None;
    for slab in 0..w.slices.len() {
        let [a, b] = slab_operands(w, slab);
        // A slab has some of the rows, over which the sum goes on.
        let adding = add || slab > 0;
        let depth = w.shape.slabs[slab].count();
        let whole = ProductShape {
            direction,
            kernel,
            x,
            tokens,
            columns: dy.columns,
            flags: if adding { ADD } else { 0 },
            scale: dy.scale,
            parts: (1, depth.next_multiple_of(256)),
            padded: false,
            low: None,
        };
        let uncut = plan(&w.shape, slab, &whole, 0, budget)?.len() == 1;
        let shared = share(rec, kernel, [tokens, cols, depth], dy.scratch.filter(|_| uncut));
        let low = dy.low.filter(|l| uncut && slab == 0 && l.joins(kernel, cols));
        joined = joined.or(low);
        let part = match shared.0 {
            1 => None,
            count => {
                let bytes = u64::from(count) * u64::from(tokens) * u64::from(cols) * 4;
                dy.scratch.map(|s| s.range(0, bytes))
            }
        };
        let shared_shape = ProductShape {
            flags: if part.is_some() { 0 } else { whole.flags },
            parts: shared,
            low: low.map(low_shape),
            ..whole
        };
        let plan = plan(&w.shape, slab, &shared_shape, 0, budget)?;
        let mut operands = vec![a, b, dy.dy, part.as_ref().unwrap_or(dx)];
        operands.extend(low.iter().flat_map(|l| [l.t, l.m]));
        for (aligned, plan) in kernel.by_alignment([cols, depth], false, plan) {
            let name = kernel.name(direction, ty, x, aligned, low.is_some());
            let pipeline = gpu.pipeline(&name, || kernel.shader(direction, ty, x, aligned, low.is_some()))?;
            record(rec, &pipeline, &operands, &plan);
        }
        if let Some(part) = &part {
            let to = (dx, Columns::all(cols));
            split_k::sum_splits(rec, part, [shared.0, tokens, cols], to, 1.0, adding)?;
        }
    }
    match dy.low.filter(|_| joined.is_none()) {
        Some(l) => {
            let shape = lora::Shape { tokens, rank: l.rank, width: cols };
            lora::grad_x(rec, (l.t, l.columns), l.m, dx, shape, true)
        }
        None => Ok(()),
    }
}

/// The norm of an epilogue, alone.
pub(super) fn norm_after(
    rec: &mut Recorder,
    y: &Slice,
    cols: u32,
    tokens: u32,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let Some(norm) = epilogue.norm else { return Ok(()) };
    rmsnorm::rmsnorm_to(rec, y, norm.w, norm.to, tokens, cols, norm.eps)
}
