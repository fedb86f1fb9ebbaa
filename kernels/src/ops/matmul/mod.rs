//! Matrix products with a weight of any type, in four variants: for a few tokens (decode) in f32 or in
//! integers, and tiled (prefill) in f32 or with cooperative matrices. [`Variant::pick`] chooses.

pub mod cases;
mod gradient;
mod matvec;
pub mod reference;

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use super::quantize::{self, Quantized};
use super::{WEIGHT, slab_operands, with_dequant};
use crate::{
    Bind, Budget, Dispatch, Fields, PlanError, Result, Weight, WeightShape, WeightType, compose, fold,
    params, record, split_rows,
};

pub use gradient::linear_gradient;
pub use matvec::{MATVEC_TOKENS, Matvec};

const HAS_BIAS: u32 = 1;
const ADD: u32 = 2;

params! {
    /// Parameters of all variants; `extent` is the tokens of the tiled ones, the folded grid of the
    /// others.
    pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub column: u32,
        pub pad: u32,
    }
}

/// A way to compute the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A few tokens, f32. Core WebGPU.
    Matvec,
    /// A few tokens, `dot4I8Packed` on activations of 16 bits. Core WebGPU, fast where the device has
    /// the instruction.
    MatvecDot,
    /// Tiles of 64 x 64 in f32. Core WebGPU.
    Tiled,
    /// Tiles with cooperative matrices, f16 in and f32 out.
    Coop,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 4] = [Variant::Matvec, Variant::MatvecDot, Variant::Tiled, Variant::Coop];

    /// The name used in pipelines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Matvec => "matvec",
            Variant::MatvecDot => "matvec_dot",
            Variant::Tiled => "tiled",
            Variant::Coop => "coop",
        }
    }

    /// Whether the device can run this variant on this type and batch; the reason if not.
    ///
    /// # Errors
    /// What is lacking.
    pub fn supports(self, caps: &Caps, ty: WeightType, tokens: u32) -> std::result::Result<(), &'static str> {
        let few = tokens <= MATVEC_TOKENS;
        match self {
            Variant::Matvec if !few => Err("more tokens than a matvec takes"),
            Variant::MatvecDot if !few => Err("more tokens than a matvec takes"),
            Variant::MatvecDot if !caps.dot => Err("no packed int8 dot product"),
            Variant::MatvecDot if !ty.layout().has_ints() => Err("the type is not one of integers"),
            Variant::Coop if Coop::of(caps).is_none() => Err("no cooperative matrices in f16 and f32"),
            // f16 inputs cannot hold what these types can.
            Variant::Coop if matches!(ty, WeightType::F32 | WeightType::BF16) => {
                Err("the type is wider than f16")
            }
            _ => Ok(()),
        }
    }

    /// The variant for a device, a type and a batch: the fastest measured one that it supports.
    pub fn pick(caps: &Caps, ty: WeightType, tokens: u32) -> Variant {
        let can = |v: Variant| v.supports(caps, ty, tokens).is_ok();
        // A CPU emulates packed dots, and loses by them.
        if tokens <= MATVEC_TOKENS {
            let hardware = caps.kind != DeviceKind::Cpu;
            return if hardware && can(Variant::MatvecDot) { Variant::MatvecDot } else { Variant::Matvec };
        }
        let hardware = caps.kind != DeviceKind::Cpu;
        if hardware && can(Variant::Coop) { Variant::Coop } else { Variant::Tiled }
    }
}

/// The cooperative tile of a device; constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coop {
    /// Side of a matrix: 8 or 16.
    pub side: u32,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// Tokens of a tile.
    pub bm: u32,
    /// Rows of a tile.
    pub bn: u32,
}

impl Coop {
    /// The tile of 4 x 4 matrices a subgroup, if the device has matrices with f32 sums and subgroups
    /// of one fixed size.
    pub fn of(caps: &Caps) -> Option<Coop> {
        let (least, most) = caps.subgroups?;
        if least != most || !caps.f16 {
            return None;
        }
        let side = caps.coop.iter().filter(|c| c.f32_accumulate).map(|c| c.m).max()?;
        let whole = Coop { side, subgroup: least, bm: 8 * side, bn: 8 * side };
        // Both tiles in rows of 40 f16, and a matrix of f32 for each of the four subgroups.
        let bytes = (whole.bm + whole.bn) * 80 + 16 * side * side;
        let roomy = bytes <= caps.limits.max_compute_workgroup_storage_size;
        Some(if roomy { whole } else { Coop { bm: 4 * side, bn: 4 * side, ..whole } })
    }

    /// Half the tokens, where whole tiles would be too few to fill a large GPU.
    fn for_shape(self, rows: u32, tokens: u32) -> Coop {
        let tiles = tokens.div_ceil(self.bm) * rows.div_ceil(self.bn);
        if tiles < 400 && self.bm > 4 * self.side { Coop { bm: self.bm / 2, ..self } } else { self }
    }
}

/// What is added to a product `y[t, r] = x[t, :] . w[r, :]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[rows]` f32.
    pub bias: Option<&'a Slice>,
    /// Add to what y holds: the residual.
    pub add: bool,
}

/// The left side of a product: `[tokens, cols]` f32, and as integers where [`Variant::MatvecDot`] will
/// read them.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The values.
    pub x: &'a Slice,
    /// The same, quantised by [`quantize::quantize`].
    pub ints: Option<&'a Quantized>,
}

/// Where a product goes in y: `stride` values a token, of which the first is at `column`. Several
/// products can share a y.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Values of a token in y.
    pub stride: u32,
    /// Column of row 0.
    pub column: u32,
}

impl Columns {
    /// All of y.
    pub fn all(rows: u32) -> Columns {
        Columns { stride: rows, column: 0 }
    }
}

/// One dispatch for each range of tokens whose rows of x and y fit a binding. Operands: slab, slab,
/// bias, x (xq and xm for the integer kernel), y.
///
/// # Errors
/// A row of x or y that exceeds a binding.
pub fn plan(
    w: &WeightShape,
    slab: usize,
    tokens: u32,
    kernel: Kernel,
    y: Columns,
    flags: u32,
    bias_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let (x_bytes, y_row) = (u64::from(w.cols) * 4, u64::from(y.stride) * 4);
    let x_rows = match kernel {
        Kernel::Matvec(Variant::MatvecDot, _) => {
            let (q, meta) = quantize::bytes(w.cols.into());
            vec![q, meta]
        }
        _ => vec![x_bytes],
    };
    let row_bytes = [&x_rows[..], &[y_row]].concat();
    let ranges = match kernel {
        // The few-token kernels have their token count compiled in, so they take them whole.
        Kernel::Matvec(..) => std::iter::once(0..tokens).collect(),
        _ => split_rows("matmul", tokens, &row_bytes, budget)?,
    };
    Ok(ranges
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let (grid, extent) = match kernel {
                Kernel::Matvec(_, v) => {
                    let grid = fold(rows.div_ceil(v.rows_per_group()), budget);
                    (grid, grid[0])
                }
                Kernel::Tiled => ([n.div_ceil(64), rows.div_ceil(64), 1], n),
                Kernel::Coop(c) => ([n.div_ceil(c.bm), rows.div_ceil(c.bn), 1], n),
            };
            let mut binds = vec![
                Bind { operand: 0, offset: 0, size: s.bytes },
                Bind { operand: 1, offset: 0, size: s.bytes },
                Bind { operand: 2, offset: 0, size: bias_bytes },
            ];
            for (i, row) in row_bytes.iter().enumerate() {
                let (offset, size) = (u64::from(t.start) * row, u64::from(n) * row);
                binds.push(Bind { operand: 3 + i, offset, size });
            }
            Dispatch {
                params: Params {
                    planes: s.planes,
                    row0: s.rows.start,
                    rows,
                    units: w.units(),
                    y_stride: y.stride,
                    flags,
                    extent,
                    column: y.column,
                    pad: 0,
                },
                binds,
                grid,
                cost: Cost {
                    bytes: s.bytes as f64 + f64::from(n) * (x_bytes + y_row) as f64,
                    flops: 2.0 * f64::from(n) * f64::from(rows) * f64::from(w.cols),
                },
            }
        })
        .collect())
}

/// A variant with the constants of its shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// [`Variant::Matvec`] or [`Variant::MatvecDot`].
    Matvec(Variant, Matvec),
    /// [`Variant::Tiled`].
    Tiled,
    /// [`Variant::Coop`].
    Coop(Coop),
}

impl Kernel {
    fn new(variant: Variant, caps: &Caps, w: &WeightShape, tokens: u32) -> Kernel {
        match variant {
            Variant::Tiled => Kernel::Tiled,
            Variant::Coop => Kernel::Coop(Coop::of(caps).expect("supported").for_shape(w.rows, tokens)),
            v => Kernel::Matvec(v, Matvec::pick(v, w.rows, w.cols, tokens)),
        }
    }

    fn name(self, ty: WeightType) -> String {
        match self {
            Kernel::Matvec(v, m) => m.name(v, ty),
            Kernel::Tiled => format!("matmul_64x64_{ty}"),
            Kernel::Coop(c) => format!("matmul_coop{}_{}x{}_{ty}", c.side, c.bm, c.bn),
        }
    }

    fn shader(self, ty: WeightType) -> Shader {
        const IN_OUT: [Access; 3] = [Access::Read, Access::ReadWrite, Access::ReadWrite];
        let bindings = [&WEIGHT[..], &IN_OUT].concat();
        let source = match self {
            Kernel::Matvec(v, m) => return m.shader(v, ty),
            Kernel::Tiled => compose(&[], &[], &with_dequant(ty, include_str!("tiled.wgsl"))),
            Kernel::Coop(c) => {
                let matrices = match c.side {
                    16 => include_str!("coop16.wgsl"),
                    _ => include_str!("coop8.wgsl"),
                };
                let mut parts = with_dequant(ty, include_str!("coop.wgsl"));
                parts.push(matrices);
                let constants = [
                    ("SG", c.subgroup),
                    ("BM", c.bm),
                    ("BN", c.bn),
                    ("MT", c.bm / (2 * c.side)),
                    ("NT", c.bn / (2 * c.side)),
                    // Units of w and vec4 of x that an invocation loads.
                    ("WL", c.bn * 2 / (4 * c.subgroup)),
                    ("XL", c.bm * 8 / (4 * c.subgroup)),
                ];
                compose(&["f16", "wgpu_cooperative_matrix"], &constants, &parts)
            }
        };
        Shader { name: self.name(ty), source, bindings }
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut kernels = vec![Kernel::Tiled];
    for (side, subgroup) in [(16, 32), (8, 8)] {
        let whole = Coop { side, subgroup, bm: 8 * side, bn: 8 * side };
        let half = Coop { bm: 4 * side, ..whole };
        kernels.extend([whole, half, Coop { bn: 4 * side, ..half }].map(Kernel::Coop));
    }
    for variant in [Variant::Matvec, Variant::MatvecDot] {
        for tokens in 1..=MATVEC_TOKENS {
            for cols in [16, 1024, 4096, 14_336] {
                kernels.push(Kernel::Matvec(variant, Matvec::pick(variant, 1024, cols, tokens)));
            }
        }
    }
    let mut all = Vec::new();
    for kernel in kernels {
        for &ty in WeightType::ALL {
            let ints = ty.layout().has_ints();
            if ints || !matches!(kernel, Kernel::Matvec(Variant::MatvecDot, _)) {
                all.push((kernel.shader(ty), Params::FIELDS));
            }
        }
    }
    all.extend(gradient::shaders());
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
        Variant::MatvecDot if x.ints.is_none() => Variant::Matvec,
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
    let budget = gpu.budget();
    let flags = if epilogue.bias.is_some() { HAS_BIAS } else { 0 } | if epilogue.add { ADD } else { 0 };
    let mut kernel = Kernel::new(variant, gpu.caps(), &w.shape, tokens);
    let widest = u64::from(w.shape.cols.max(columns.stride)) * 4;
    if matches!(kernel, Kernel::Matvec(..)) && u64::from(tokens) * widest > budget.max_binding {
        kernel = Kernel::Tiled;
    }
    let ty = w.shape.ty;
    let pipeline = gpu.pipeline(&kernel.name(ty), || kernel.shader(ty))?;
    for slab in 0..w.slices.len() {
        let [a, b] = slab_operands(w, slab);
        // Without a bias the slab stands in for it: bound, never read.
        let bias = epilogue.bias.unwrap_or(a);
        let plan = plan(&w.shape, slab, tokens, kernel, columns, flags, bias.size(), budget)?;
        match (kernel, x.ints) {
            (Kernel::Matvec(Variant::MatvecDot, _), Some(ints)) => {
                record(rec, &pipeline, &[a, b, bias, &ints.q, &ints.meta, y], &plan);
            }
            _ => record(rec, &pipeline, &[a, b, bias, x.x, y], &plan),
        }
    }
    Ok(())
}
