//! Rotary position embedding, with the frequencies of plain, linear, YaRN and per-dimension scaling.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub token0: u32,
        pub tokens: u32,
        pub heads: u32,
        pub half_dim: u32,
        pub pairs: u32,
        pub grid_x: u32,
        pub mscale: f32,
        pub pad: u32,
    }
}

const WG: u32 = 64;

/// Which dimensions of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// (0, 1), (2, 3), ...: Llama as GGUF stores it.
    Adjacent,
    /// (0, n), (1, n + 1), ...: Qwen, and Llama as transformers has it.
    HalfSplit,
}

/// How positions are stretched past the trained context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Every angle divided by `factor`.
    Linear {
        /// Stretch.
        factor: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071): low frequencies divided by `factor`, high ones kept,
    /// a ramp between, and the rotated vectors scaled by `attention`.
    Yarn {
        /// Stretch.
        factor: f64,
        /// The context that was trained on.
        original_context: f64,
        /// Rotations above which a frequency is kept (32).
        beta_fast: f64,
        /// Rotations below which it is fully divided (1).
        beta_slow: f64,
        /// Scale of the rotated vectors, usually 1 + 0.1 ln(factor).
        attention: f64,
    },
}

/// The rotation of a model: an angle a position for each pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// Radians a position, for each pair.
    pub frequencies: Vec<f64>,
    /// Scale of the rotated vectors.
    pub mscale: f32,
    /// Which dimensions form a pair.
    pub pairing: Pairing,
}

impl Rotation {
    /// Frequencies `base^(-2 i / dims)`, divided by `factors[i]` where given, then scaled.
    pub fn new(dims: u32, base: f64, factors: Option<&[f32]>, scaling: Scaling, pairing: Pairing) -> Self {
        let n = f64::from(dims);
        let plain = |i: u32| {
            let f = base.powf(-2.0 * f64::from(i) / n);
            factors.map_or(f, |all| f / f64::from(all[i as usize]))
        };
        let (frequencies, mscale) = match scaling {
            Scaling::None => ((0..dims / 2).map(plain).collect(), 1.0),
            Scaling::Linear { factor } => ((0..dims / 2).map(|i| plain(i) / factor).collect(), 1.0),
            Scaling::Yarn { factor, original_context, beta_fast, beta_slow, attention } => {
                // The pair whose wavelength makes `rotations` turns in the original context.
                let pair_of = |rotations: f64| {
                    n * (original_context / (rotations * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
                };
                let low = pair_of(beta_fast).floor().max(0.0);
                let high = pair_of(beta_slow).ceil().min(n - 1.0);
                let blend = |i: u32| {
                    let ramp = ((f64::from(i) - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    plain(i) * ((1.0 - ramp) + ramp / factor)
                };
                ((0..dims / 2).map(blend).collect(), attention as f32)
            }
        };
        Rotation { frequencies, mscale, pairing }
    }

    /// No rotation at all, for layers without positions (NoPE).
    pub fn none() -> Rotation {
        Rotation { frequencies: Vec::new(), mscale: 1.0, pairing: Pairing::HalfSplit }
    }

    /// The (cos, sin) table of the kernel for positions below `context`, `[128 + blocks, pairs]`; one entry that
    /// nobody reads where nothing is rotated.
    pub fn table(&self, context: u32) -> Vec<[f32; 2]> {
        if self.frequencies.is_empty() {
            return vec![[1.0, 0.0]];
        }
        let blocks = context.div_ceil(128).max(1);
        let positions = (0..128).map(f64::from).chain((0..blocks).map(|b| 128.0 * f64::from(b)));
        positions
            .flat_map(|p| self.frequencies.iter().map(move |f| [(p * f).cos() as f32, (p * f).sin() as f32]))
            .collect()
    }

    /// Pairs rotated in a head.
    pub fn pairs(&self) -> u32 {
        self.frequencies.len() as u32
    }
}

/// The dispatches. Operands: state, table, x.
///
/// # Errors
/// A token's heads that exceed a binding.
pub fn plan(
    tokens: u32,
    heads: u32,
    head_dim: u32,
    rotation: (u32, f32),
    table_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let (pairs, mscale) = rotation;
    if pairs * 2 > head_dim || !head_dim.is_multiple_of(2) {
        let what = format!("cannot rotate {} dimensions of a head of {head_dim}", pairs * 2);
        return Err(PlanError::Shape { op: "rope", what });
    }
    if table_bytes > budget.max_binding {
        let (needed, allowed) = (table_bytes, budget.max_binding);
        return Err(PlanError::DoesNotFit { op: "rope", what: "the table of angles", needed, allowed });
    }
    let row = u64::from(heads) * u64::from(head_dim) * 4;
    Ok(split_rows("rope", tokens, &[row], budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let grid = fold((n * heads * pairs).div_ceil(WG), budget);
            Dispatch {
                params: Params {
                    token0: t.start,
                    tokens: n,
                    heads,
                    half_dim: head_dim / 2,
                    pairs,
                    grid_x: grid[0],
                    mscale,
                    pad: 0,
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: 4 },
                    Bind { operand: 1, offset: 0, size: table_bytes },
                    Bind { operand: 2, offset: u64::from(t.start) * row, size: u64::from(n) * row },
                ],
                grid,
                cost: Cost { bytes: f64::from(n) * row as f64 * 2.0, flops: f64::from(n) * row as f64 },
            }
        })
        .collect())
}

fn name(pairing: Pairing) -> &'static str {
    match pairing {
        Pairing::Adjacent => "rope_adjacent_f32",
        Pairing::HalfSplit => "rope_half_split_f32",
    }
}

fn shader(pairing: Pairing) -> Shader {
    let adjacent = u32::from(pairing == Pairing::Adjacent);
    Shader {
        name: name(pairing).into(),
        source: compose(&[], &[("WG", WG), ("ADJACENT", adjacent)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::Read, Access::Read, Access::ReadWrite],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [Pairing::Adjacent, Pairing::HalfSplit].map(|p| (shader(p), Params::FIELDS)).into()
}

/// The operands of the rotation of x in place.
#[derive(Debug, Clone, Copy)]
pub struct Rope<'a> {
    /// The first token's position in word 0, u32.
    pub state: &'a Slice,
    /// The angles, as [`Rotation::table`] gives them, f32.
    pub table: &'a Slice,
    /// What is rotated, `[tokens, heads, head_dim]` f32.
    pub x: &'a Slice,
    /// Tokens.
    pub tokens: u32,
    /// Heads.
    pub heads: u32,
    /// Values of a head.
    pub head_dim: u32,
    /// The rotation.
    pub rotation: &'a Rotation,
}

impl Rope<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let Rope { state, table, x, tokens, heads, head_dim, rotation } = *self;
        let pipeline = rec.gpu().pipeline(name(rotation.pairing), || shader(rotation.pairing))?;
        let rotated = (rotation.pairs(), rotation.mscale);
        let plan = plan(tokens, heads, head_dim, rotated, table.size(), rec.gpu().budget())?;
        record(rec, &pipeline, &[state, table, x], &plan);
        Ok(())
    }
}
