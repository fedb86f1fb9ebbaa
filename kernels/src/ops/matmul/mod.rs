//! Matrix products with a weight of any type: [`linear`] picks between the kernel for a few tokens
//! (`matvec.wgsl`, decode) and the tiled one (`tiled.wgsl`, prefill).

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::{WEIGHT, slab_operands, with_dequant};
use crate::{
    Bind, Budget, Dispatch, Fields, PlanError, Result, Weight, WeightShape, WeightType, compose, fold,
    params, record, split_rows,
};

/// Up to this many tokens, each weight is read once and multiplied with all of them in registers;
/// past it the tiled kernel wins although it computes whole tiles of 64.
pub const MATVEC_TOKENS: u32 = 8;

const HAS_BIAS: u32 = 1;
const ADD: u32 = 2;

params! {
    /// Parameters of both kernels; `extent` is the tokens of the tiled one, the folded grid of the other.
pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub rows: u32,
        pub units: u32,
        pub y_stride: u32,
        pub flags: u32,
        pub extent: u32,
        pub pad: [u32; 2],
    }
}

/// How the matvec kernel spreads its work; constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matvec {
    /// Invocations.
    pub wg: u32,
    /// Invocations that share a row.
    pub lanes: u32,
    /// Rows of each group of lanes.
    pub rows: u32,
    /// Tokens.
    pub tokens: u32,
}

impl Matvec {
    /// Longer rows get more lanes; several tokens get fewer rows, so that accumulators stay few.
    pub fn pick(cols: u32, tokens: u32) -> Matvec {
        let lanes = match cols / 16 {
            0..=31 => 8,
            32..=127 => 16,
            _ => 32,
        };
        Matvec { wg: 128, lanes, rows: if tokens <= 2 { 2 } else { 1 }, tokens }
    }

    /// Rows of a workgroup.
    pub fn rows_per_group(self) -> u32 {
        self.wg / self.lanes * self.rows
    }
}

/// A product `y[t, r] = x[t, :] . w[r, :]` with what is added to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// [rows] f32.
    pub bias: Option<&'a Slice>,
    /// Add to what y holds: the residual.
    pub add: bool,
}

/// The dispatches of the few-token kernel for slab `slab`. Operands: slab, slab, bias, x, y.
///
/// # Errors
/// A row of x or y that exceeds a binding.
pub fn plan_matvec(
    w: &WeightShape,
    slab: usize,
    v: Matvec,
    flags: u32,
    bias_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let grid = fold(rows.div_ceil(v.rows_per_group()), budget);
    plan_tokens(w, slab, v.tokens, flags, bias_bytes, budget).map(|parts| {
        parts
            .into_iter()
            .map(|mut d| {
                d.params.extent = grid[0];
                d.grid = grid;
                d
            })
            .collect()
    })
}

/// The dispatches of the tiled kernel for slab `slab`. Operands: slab, slab, bias, x, y.
///
/// # Errors
/// A row of x or y that exceeds a binding.
pub fn plan_tiled(
    w: &WeightShape,
    slab: usize,
    tokens: u32,
    flags: u32,
    bias_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    plan_tokens(w, slab, tokens, flags, bias_bytes, budget)
}

/// One dispatch for each range of tokens whose rows of x and y fit a binding.
fn plan_tokens(
    w: &WeightShape,
    slab: usize,
    tokens: u32,
    flags: u32,
    bias_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let s = &w.slabs[slab];
    let rows = s.rows.end - s.rows.start;
    let (x_row, y_row) = (u64::from(w.cols) * 4, u64::from(w.rows) * 4);
    Ok(split_rows("matmul", tokens, &[x_row, y_row], budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let part =
                |operand, row| Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row };
            let flops = 2.0 * f64::from(n) * f64::from(rows) * f64::from(w.cols);
            Dispatch {
                params: Params {
                    planes: s.planes,
                    row0: s.rows.start,
                    rows,
                    units: w.units(),
                    y_stride: w.rows,
                    flags,
                    extent: n,
                    pad: [0; 2],
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: s.bytes },
                    Bind { operand: 1, offset: 0, size: s.bytes },
                    Bind { operand: 2, offset: 0, size: bias_bytes },
                    part(3, x_row),
                    part(4, y_row),
                ],
                grid: [n.div_ceil(64), rows.div_ceil(64), 1],
                cost: Cost { bytes: s.bytes as f64 + f64::from(n) * (x_row + y_row) as f64, flops },
            }
        })
        .collect())
}

const BINDINGS: [Access; 3] = [Access::Read, Access::ReadWrite, Access::ReadWrite];

/// The few-token kernel if `v` is given, else the tiled one.
fn name(ty: WeightType, v: Option<Matvec>) -> String {
    match v {
        Some(v) => format!("matvec_l{}_t{}_{ty}", v.lanes, v.tokens),
        None => format!("matmul_64x64_{ty}"),
    }
}

fn shader(ty: WeightType, v: Option<Matvec>) -> Shader {
    let source = match v {
        Some(v) => {
            let constants = [("WG", v.wg), ("LANES", v.lanes), ("ROWS", v.rows), ("TOKENS", v.tokens)];
            compose(&[], &constants, &with_dequant(ty, include_str!("matvec.wgsl")))
        }
        None => compose(&[], &[], &with_dequant(ty, include_str!("tiled.wgsl"))),
    };
    Shader { name: name(ty, v), source, bindings: [&WEIGHT[..], &BINDINGS].concat() }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let variants = (1..=MATVEC_TOKENS)
        .flat_map(|t| [16, 512, 4096].map(|cols| Some(Matvec::pick(cols, t))))
        .chain([None]);
    variants.flat_map(|v| WeightType::ALL.iter().map(move |&ty| (shader(ty, v), Params::FIELDS))).collect()
}

/// Records `y = x w^T`, with the epilogue, for `tokens` rows of x.
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn linear(
    rec: &mut Recorder,
    w: &Weight,
    x: &Slice,
    y: &Slice,
    tokens: u32,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let budget = rec.gpu().budget().clone();
    let ty = w.shape.ty;
    let flags = if epilogue.bias.is_some() { HAS_BIAS } else { 0 } | if epilogue.add { ADD } else { 0 };
    // The few-token kernel has its token count compiled in, so it takes them whole or not at all.
    let widest = u64::from(w.shape.cols.max(w.shape.rows)) * 4;
    let few = tokens <= MATVEC_TOKENS && u64::from(tokens) * widest <= budget.max_binding;
    let v = Matvec::pick(w.shape.cols, tokens);
    let v = few.then_some(v);
    let pipeline = rec.gpu().pipeline(&name(ty, v), || shader(ty, v))?;
    for slab in 0..w.slices.len() {
        let [a, b] = slab_operands(w, slab);
        // Without a bias the slab stands in for it: bound, never read.
        let bias = epilogue.bias.unwrap_or(a);
        let plan = match v {
            Some(v) => plan_matvec(&w.shape, slab, v, flags, bias.size(), &budget)?,
            None => plan_tiled(&w.shape, slab, tokens, flags, bias.size(), &budget)?,
        };
        record(rec, &pipeline, &[a, b, bias, x, y], &plan);
    }
    Ok(())
}
