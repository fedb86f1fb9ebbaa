//! Matrix products with a weight of any type: for a few tokens (decode) in f32 or in integers, and for
//! many (prefill, training) in f32, f16, integers or with cooperative matrices. [`Variant::pick`]
//! chooses.

pub mod cases;
pub mod chain;
mod direct;
mod matvec;
pub mod product;
pub mod reference;
pub mod tiles;

use weft_runtime::{Caps, Cost, Recorder, Shader, Slice};

use super::quantize::{self, Quantized};
use super::rmsnorm::{self, Norm};
use super::{Format, slab_operands};
use crate::select::{self, CallShape};
use crate::{Bind, Budget, Dispatch, Fields, Result, Weight, WeightShape, WeightType, fold, params, record};

pub use crate::coop::Coop;
pub use crate::layout::Columns;
pub use crate::select::MATVEC_TOKENS;
pub use direct::{DirectTile, left_side};
pub use matvec::Matvec;
pub use product::{Gradient, LowRank, forward as linear_with, gradient as gradient_with, linear_gradient};
pub use tiles::{CoopTile, Direction, Kernel, Tile};

const HAS_BIAS: u32 = 1;
const ADD: u32 = 2;

params! {
    /// Parameters of the variants for a few tokens; `extent` is the folded grid.
    pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub column: u32,
        pub eps: f32,
    }
}

/// A way to compute the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A few tokens, f32. Core WebGPU.
    Matvec,
    /// A few tokens, `dot4I8Packed` on activations of 8 bits. Core WebGPU, fast where the device has
    /// the instruction.
    MatvecDot,
    /// Register tiles in f32. Core WebGPU.
    Tiled,
    /// Register tiles in f16, whose sums of 32 columns go to f32.
    TiledF16,
    /// Register tiles in integers, `dot4I8Packed` on activations of 8 bits. Core WebGPU, fast where the
    /// device has the instruction.
    TiledDot,
    /// Rows in registers in f32, activations handed round in subgroups: no workgroup memory.
    Broadcast,
    /// Tiles with cooperative matrices, f16 in and f32 out.
    Coop,
    /// The same with the left side in tiles, [`Format::Tiles`], which go straight into matrices.
    Direct,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 8] = [
        Variant::Matvec,
        Variant::MatvecDot,
        Variant::Tiled,
        Variant::TiledF16,
        Variant::TiledDot,
        Variant::Broadcast,
        Variant::Coop,
        Variant::Direct,
    ];

    /// The name used in pipelines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Matvec => "matvec",
            Variant::MatvecDot => "matvec_dot",
            Variant::Tiled => "tiled",
            Variant::TiledF16 => "tiled_f16",
            Variant::TiledDot => "tiled_dot",
            Variant::Broadcast => "broadcast",
            Variant::Coop => "coop",
            Variant::Direct => "direct",
        }
    }

    /// The variant of that name.
    pub fn named(name: &str) -> Option<Variant> {
        Variant::ALL.into_iter().find(|v| v.name() == name)
    }

    /// Whether it is for at most [`MATVEC_TOKENS`].
    pub fn few(self) -> bool {
        matches!(self, Variant::Matvec | Variant::MatvecDot)
    }

    /// Whether the device can run this variant on this type and batch; the reason if not.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, ty: WeightType, tokens: u32) -> std::result::Result<(), &'static str> {
        match self {
            v if v.few() && tokens > MATVEC_TOKENS => Err("more tokens than a matvec takes"),
            Variant::MatvecDot | Variant::TiledDot if !caps.dot => Err("no packed int8 dot product"),
            Variant::MatvecDot | Variant::TiledDot if !ty.layout().has_ints() => {
                Err("the type is not one of integers")
            }
            Variant::TiledF16 if !caps.f16 => Err("no f16"),
            Variant::Broadcast if Kernel::all(Variant::Broadcast, Direction::Forward, caps).is_empty() => {
                Err("no subgroups of one size up to 32")
            }
            Variant::Coop if Kernel::all(Variant::Coop, Direction::Forward, caps).is_empty() => {
                Err("no cooperative matrices in f16 and f32")
            }
            Variant::Direct => direct::supports(caps, ty, tokens),
            // A file of F32 was chosen for its precision, which f16 would lose.
            Variant::TiledF16 | Variant::Coop if ty == WeightType::F32 => Err("the type is wider than f16"),
            _ => Ok(()),
        }
    }

    /// The variant for a device, a type and a batch whose activations lie in rows, by the table.
    pub fn pick(caps: &Caps, ty: WeightType, tokens: u32) -> Variant {
        let rows = |v: &Variant| *v != Variant::Direct;
        let of = |name: &str| Variant::named(name).filter(rows);
        let can = |name: &str| of(name).is_some_and(|v| v.supports(caps, ty, tokens).is_ok());
        of(select::variant("matmul", caps, CallShape::tokens(tokens), can)).unwrap_or(Variant::Tiled)
    }
}

/// What is added to a product `y[t, r] = x[t, :] . w[r, :]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[rows]` f32.
    pub bias: Option<&'a Slice>,
    /// Add to what y holds: the residual.
    pub add: bool,
    /// An adapter's product.
    pub low: Option<LowRank<'a>>,
    /// Activations for the parts of a sum that workgroups share; without, they do not.
    pub scratch: Option<&'a Slice>,
    /// Whether a cooperative kernel has its parameters in its text ([`Gpu::specialised`](weft_runtime::Gpu::specialised)):
    /// for what is replayed often.
    pub specialised: bool,
    /// RMSNorm of all of y, the residual stream, once the product is added to it.
    pub norm: Option<Norm<'a>>,
}

/// The left side of a product: `[tokens, cols]`, and as integers where [`Variant::MatvecDot`] or
/// [`Variant::TiledDot`] will read them.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The values.
    pub x: &'a Slice,
    /// The same, quantised: by [`quantize::quantize`] for a few tokens, by [`quantize::quantize8`] for
    /// many.
    pub ints: Option<&'a Quantized>,
    /// How x lies in memory.
    pub format: Format,
}

impl<'a> Input<'a> {
    /// Values in f32.
    pub fn f32(x: &'a Slice) -> Input<'a> {
        Input { x, ints: None, format: Format::F32 }
    }
}

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

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = tiles::shaders();
    all.extend(chain::shaders());
    for &ty in WeightType::ALL {
        all.extend(Matvec::all(ty).into_iter().map(|(v, m)| (m.shader(v, ty), Params::FIELDS)));
    }
    all
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
        _ if matches!(x.format, Format::Tiles { .. }) => Variant::Direct,
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
        let kernel = Kernel::pick(variant, Direction::Forward, x.format, gpu.caps(), w.shape.rows, tokens);
        return product::forward(rec, kernel, w, x, (y, columns), tokens, epilogue);
    }
    let constants = Matvec::tuned(gpu.caps(), variant, w.shape.ty, w.shape.rows, w.shape.cols, tokens);
    matvec_with(rec, (variant, constants), w, x, (y, columns), epilogue)?;
    if let Some(low) = epilogue.low {
        low.up(rec, (y, columns), w.shape.rows, tokens)?;
    }
    norm_after(rec, y, w.shape.rows, tokens, epilogue)
}

/// The norm of an epilogue, alone.
fn norm_after(rec: &mut Recorder, y: &Slice, cols: u32, tokens: u32, epilogue: Epilogue<'_>) -> Result<()> {
    let Some(norm) = epilogue.norm else { return Ok(()) };
    rmsnorm::rmsnorm_to(rec, y, norm.w, norm.to, tokens, cols, norm.eps)
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
