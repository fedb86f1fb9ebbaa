//! Which constants are faster here than those that a kernel would take, measured as decode meets them: each
//! dispatch waits for the one before. What [`crate::tuning`] writes down.

use std::time::Duration;

use weft_runtime::{Caps, DeviceKind, Gpu, Pool, Recorder, Tuned};

use super::attention::{LARGE, Prepared};
use super::{Attention, Buffers, Effort, How, Product, buffers, matvec_seconds, seconds, weights};
use crate::ops::attention::{CacheType, decode};
use crate::ops::matmul::chain::{self, ChainEpilogue, ChainOutput};
use crate::ops::matmul::{Columns, Matvec, Variant};
use crate::ops::quantize::{self, Quantized};
use crate::select::{self, CallShape};
use crate::tuning::{self, Finding};
use crate::{Result, Weight, WeightType};

/// Constants must be faster than the table's by this, each time they are measured.
const GAIN: f64 = 0.03;

/// A kernel, a type and a shape to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tunable {
    /// A matvec in f32, rows x columns.
    Matvec(WeightType, [u32; 2]),
    /// A link of a decode step.
    Chain(ChainEpilogue, WeightType, [u32; 2]),
    /// A decode step's attention: positions, heads, size of a head.
    Attention(CacheType, [u32; 3]),
}

/// Rows and columns of the matrices of models of 4B and 8B, of 1B and 2B, of 0.6B; then their heads. An end,
/// then what has it: queries, keys and values; output and down; gate and up.
const MATRICES: [(ChainEpilogue, u32, u32); 18] = [
    (ChainEpilogue::Rows, 6144, 2560),
    (ChainEpilogue::Residual, 2560, 4096),
    (ChainEpilogue::SwiGlu, 19_456, 2560),
    (ChainEpilogue::Residual, 2560, 9728),
    (ChainEpilogue::Rows, 6144, 4096),
    (ChainEpilogue::Residual, 4096, 4096),
    (ChainEpilogue::SwiGlu, 28_672, 4096),
    (ChainEpilogue::Residual, 4096, 14_336),
    (ChainEpilogue::Rows, 151_936, 2560),
    (ChainEpilogue::Rows, 128_256, 4096),
    (ChainEpilogue::Rows, 3584, 2048),
    (ChainEpilogue::Residual, 2048, 2048),
    (ChainEpilogue::SwiGlu, 14_336, 2048),
    (ChainEpilogue::Residual, 2048, 7168),
    (ChainEpilogue::Rows, 4096, 1024),
    (ChainEpilogue::Residual, 1024, 2048),
    (ChainEpilogue::SwiGlu, 6144, 1024),
    (ChainEpilogue::Residual, 1024, 3072),
];

/// Positions at which attention is measured, and those that each is for: those of [`decode::SplitConfig::pick`].
const DEPTHS: [(u32, [u32; 2]); 4] =
    [(256, [0, 512]), (1024, [513, 2048]), (4096, [2049, 8192]), (16_384, [8193, u32::MAX])];

/// Query heads and their size, of models of 4B and 8B, of 1B, of 0.6B and 2B.
const HEADS: [[u32; 2]; 3] = [[32, 128], [32, 64], [16, 128]];

/// What a device's decode steps are made of, for weights and caches of these types; what matters to most comes
/// first. `quick`: the first of each kind only.
pub fn tunables(caps: &Caps, types: &[&str], quick: bool) -> Vec<Tunable> {
    let asked = |name: &str| types.iter().any(|t| t.eq_ignore_ascii_case(name));
    let of_weights = || WeightType::ALL.iter().copied().filter(|t| asked(t.name()));
    let caches = || CacheType::ALL.into_iter().filter(|t| asked(t.name()));
    // A software GPU takes seconds for a long cache.
    let deepest = if caps.kind == DeviceKind::Cpu { 1024 } else { u32::MAX };
    let depths = || DEPTHS.into_iter().map(|d| d.0).filter(|&n| n <= deepest).take(if quick { 1 } else { 4 });
    let chained = chained(caps);
    let mut all = Vec::new();
    for (i, [heads, head_dim]) in HEADS.into_iter().enumerate() {
        let decode = select::variant("attention", caps, CallShape { tokens: 1, rows: 1, head_dim }, |_| true);
        if decode == "decode" && (i == 0 || !quick) {
            all.extend(
                caches().flat_map(|ty| depths().map(move |n| Tunable::Attention(ty, [n, heads, head_dim]))),
            );
        }
    }
    let count = if quick { 4 } else { MATRICES.len() };
    for &(kind, rows, cols) in &MATRICES[..count] {
        for ty in of_weights() {
            if chained && ty.layout().has_ints() {
                all.push(Tunable::Chain(kind, ty, [rows, cols]));
            } else if Variant::pick(caps, ty, 1) == Variant::Matvec {
                all.push(Tunable::Matvec(ty, [rows, cols]));
            }
        }
    }
    all
}

/// Whether a decode step's products hand integers to each other.
fn chained(caps: &Caps) -> bool {
    select::variant("matmul", caps, CallShape::tokens(1), |_| true) == "chain"
}

impl Tunable {
    /// The family, the type and the shape, readable.
    pub fn names(&self) -> (&'static str, &'static str, String) {
        match *self {
            Tunable::Matvec(ty, [r, c]) => ("matvec", ty.name(), format!("{r} x {c}")),
            Tunable::Chain(kind, ty, [r, c]) => (kind.family(), ty.name(), format!("{r} x {c}")),
            Tunable::Attention(ty, [n, heads, dim]) => {
                ("attention_decode", ty.name(), format!("{heads} x {dim}: 1 on {n}"))
            }
        }
    }

    /// The shapes that are like the measured one: within a third of it, or as the depths say.
    fn like(&self) -> Vec<[u32; 2]> {
        let near = |n: u32| [n - n / 4, n + n / 3];
        match *self {
            Tunable::Matvec(_, shape) | Tunable::Chain(_, _, shape) => shape.map(near).to_vec(),
            Tunable::Attention(_, [n, heads, dim]) => {
                let depth = DEPTHS.into_iter().find(|d| d.0 == n).map_or(near(n), |d| d.1);
                vec![depth, near(heads), [dim; 2]]
            }
        }
    }

    /// What the kernel takes where nothing is tuned.
    fn usual(&self, caps: &Caps) -> [u32; 4] {
        match *self {
            Tunable::Matvec(ty, [r, c]) => Matvec::tuned(caps, Variant::Matvec, ty, r, c, 1).numbers(),
            Tunable::Chain(kind, ty, [r, c]) => chain::constants(caps, kind, ty, [r, c], 1).numbers(),
            Tunable::Attention(ty, [n, heads, dim]) => {
                decode::SplitConfig::tuned(caps, [heads, KV_HEADS, dim], ty, n, 1).numbers()
            }
        }
    }

    /// What is worth a try.
    fn candidates(&self, caps: &Caps) -> Vec<[u32; 4]> {
        let (op, ty, _) = self.names();
        let mut all = tuning::candidates(op, ty, caps);
        if let Tunable::Attention(_, [n, heads, _]) = *self {
            let most = decode::most_splits(n);
            // Neither fewer keys than a round has nor more rounds than anybody waits for.
            let useful = |s: u32| s == 1 || s <= most && s * 64 <= n;
            all.retain(|c| c[0] <= heads / KV_HEADS && useful(c[1]) && c[1] * 2048 >= n.min(8192));
        }
        all
    }
}

const KV_HEADS: u32 = LARGE.kv_heads;

/// What one kernel is measured with.
enum Bench {
    Matvec(Product, Vec<Weight>, Vec<Buffers>),
    Chain(ChainEpilogue, Vec<Weight>, Box<Link>),
    Attention(Box<Prepared>),
}

/// What a link of a chain reads and writes besides weights.
struct Link {
    ints: Quantized,
    out: Quantized,
    /// A vector of rows: what is added to or written, then weights of a norm.
    y: weft_runtime::Slice,
    norm: weft_runtime::Slice,
}

impl Bench {
    fn new(gpu: &Gpu, effort: &Effort, tunable: &Tunable) -> Result<Bench> {
        let copies = |p: &Product| (effort.distinct as f64 / p.bytes()).ceil().max(1.0) as usize;
        Ok(match *tunable {
            Tunable::Matvec(ty, [rows, cols]) => {
                let p = Product::forward(Variant::Matvec, ty, rows, cols, 1);
                Bench::Matvec(p, weights(gpu, (ty, rows, cols), copies(&p))?, buffers(gpu, &p, 1)?)
            }
            Tunable::Chain(kind, ty, [rows, cols]) => {
                let p = Product::forward(Variant::MatvecDot, ty, rows, cols, 1);
                let weights = weights(gpu, (ty, rows, cols), copies(&p))?;
                let quantized = |n: u32| -> Result<Quantized> {
                    let (q, meta) = quantize::bytes_normed(n.into());
                    let q = gpu.alloc(Pool::Activations, q, "perf x")?;
                    Ok(Quantized { q, meta: gpu.alloc(Pool::Activations, meta, "perf x")? })
                };
                let ones = |n: u32, pool| {
                    gpu.alloc_init(pool, bytemuck::cast_slice(&vec![1.0f32; n as usize]), "perf ones")
                };
                let ints = quantized(cols)?;
                let (x, norm) = (ones(cols, Pool::Activations)?, ones(cols, Pool::Weights)?);
                let mut rec = Recorder::new(gpu);
                quantize::normed(&mut rec, &x, &norm, &ints, [1, cols])?;
                gpu.run(&rec.finish()?, None)?;
                let (out, y) = (quantized(rows)?, ones(rows, Pool::Activations)?);
                Bench::Chain(kind, weights, Box::new(Link { ints, out, y, norm: ones(rows, Pool::Weights)? }))
            }
            Tunable::Attention(ty, [positions, heads, head_dim]) => {
                let how = How::Decode(decode::SplitConfig::of(tunable.usual(gpu.caps())));
                let a = Attention { how, ty, positions, heads, head_dim, ..LARGE };
                Bench::Attention(Box::new(Prepared::new(gpu, effort, &a, chained(gpu.caps()))?))
            }
        })
    }

    /// Seconds of a dispatch that waits for the one before.
    fn seconds(&self, gpu: &Gpu, effort: &Effort, constants: [u32; 4]) -> Result<f64> {
        let dispatches = |copies: usize| effort.dispatches.min(4 * copies).max(copies);
        match self {
            Bench::Matvec(p, weights, sets) => {
                let n = dispatches(weights.len());
                matvec_seconds(gpu, effort, p, Matvec::of(constants), weights, sets, n)
            }
            Bench::Chain(kind, weights, link) => {
                let n = dispatches(weights.len());
                let mut rec = Recorder::new(gpu);
                for w in weights.iter().cycle().take(n) {
                    link.record(&mut rec, *kind, Matvec::of(constants), w)?;
                }
                seconds(gpu, effort, &rec.finish()?, n)
            }
            Bench::Attention(a) => a.seconds(gpu, effort, How::Decode(decode::SplitConfig::of(constants))),
        }
    }

    /// Has all candidates compiled side by side.
    fn prepare(&self, gpu: &Gpu, all: &[[u32; 4]]) -> Result<()> {
        match self {
            Bench::Matvec(p, ..) => {
                all.iter().try_for_each(|&c| Matvec::of(c).prepare(gpu, p.variant, p.ty))?;
            }
            Bench::Chain(kind, weights, link) => {
                let mut rec = Recorder::new(gpu);
                for &c in all {
                    link.record(&mut rec, *kind, Matvec::of(c), &weights[0])?;
                }
            }
            Bench::Attention(a) => a.compile(gpu, all.iter().map(|&c| decode::SplitConfig::of(c)))?,
        }
        Ok(())
    }
}

impl Link {
    fn record(&self, rec: &mut Recorder, kind: ChainEpilogue, constants: Matvec, w: &Weight) -> Result<()> {
        let end = match kind {
            ChainEpilogue::Rows => {
                ChainOutput::Rows { y: &self.y, columns: Columns::all(w.shape.rows), bias: None }
            }
            ChainEpilogue::Residual => ChainOutput::Residual { h: &self.y, norm: &self.norm, out: &self.out },
            ChainEpilogue::SwiGlu => ChainOutput::SwiGlu { out: &self.out },
        };
        let norm = (kind != ChainEpilogue::Residual).then_some(1e-6);
        chain::chained_with(rec, constants, w, chain::Input { ints: &self.ints, tokens: 1, norm }, end)
    }
}

/// Measures a tunable: what the table has, all candidates in passing, and the best few against the table's once more,
/// twice. `None` where `stop` ended it before the end. A device that is too small for the tunable is an error, as
/// elsewhere in this module.
///
/// # Errors
/// No plan; out of memory; a fault.
pub fn measure(
    gpu: &Gpu,
    quick: bool,
    tunable: &Tunable,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Finding>> {
    let full = Effort::of(gpu.caps().kind, false);
    let glance = Effort {
        warm_up: full.warm_up / 4,
        at_least: Duration::from_millis(if quick { 2 } else { 4 }),
        rounds: 1,
        // Several times what a cache holds.
        distinct: (full.distinct / 8).max(full.distinct.min(48 << 20)),
        ..full
    };
    let look = Effort { warm_up: Duration::ZERO, at_least: 4 * glance.at_least, rounds: 2, ..glance };
    let (usual, all) = (tunable.usual(gpu.caps()), tunable.candidates(gpu.caps()));
    if stop() {
        return Ok(None);
    }
    let bench = Bench::new(gpu, &glance, tunable)?;
    bench.prepare(gpu, &all)?;
    let mut first = bench.seconds(gpu, &glance, usual)?;
    let glance = Effort { warm_up: Duration::ZERO, ..glance };
    first = first.min(bench.seconds(gpu, &glance, usual)?);
    let mut faster = Vec::new();
    for &c in all.iter().filter(|&&c| c != usual) {
        if stop() {
            return Ok(None);
        }
        let s = bench.seconds(gpu, &glance, c)?;
        if s < first * (1.0 - GAIN) {
            faster.push((s, c));
        }
    }
    faster.sort_by(|a, b| a.0.total_cmp(&b.0));
    faster.truncate(3);
    let mut best = (first, first, usual);
    for (_, c) in faster {
        if stop() {
            return Ok(None);
        }
        let mut pairs = [[0.0; 2]; 2];
        for pair in &mut pairs {
            *pair = [bench.seconds(gpu, &look, usual)?, bench.seconds(gpu, &look, c)?];
        }
        let [before, now] = [0, 1].map(|i| pairs[0][i].min(pairs[1][i]));
        if pairs.iter().all(|[before, now]| *now < before * (1.0 - GAIN)) && now / before < best.1 / best.0 {
            best = (before, now, c);
        }
    }
    let (op, ty, _) = tunable.names();
    let tuned = Tuned { op: op.into(), ty: ty.to_lowercase(), shape: tunable.like(), constants: best.2 };
    Ok(Some(Finding { tuned, us: [best.0 * 1e6, best.1 * 1e6] }))
}

impl Finding {
    /// Whether there is anything to gain.
    pub fn gains(&self) -> bool {
        self.us[1] < self.us[0]
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTHS, Tunable, tunables};
    use crate::WeightType;
    use crate::drivers::tests::fake;
    use weft_runtime::DeviceKind;

    #[test]
    fn jobs_are_what_decode_is_made_of() {
        let h200 = fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16);
        let all = tunables(&h200, &["q4_k", "f16"], false);
        let count = |op: &str, ty: &str| {
            all.iter().filter(|j| j.names().0 == op && j.names().1.eq_ignore_ascii_case(ty)).count()
        };
        assert_eq!(
            [("chain_rows", "q4_k"), ("chain_residual", "q4_k"), ("chain_swiglu", "q4_k")]
                .map(|(o, t)| count(o, t)),
            [6, 8, 4]
        );
        assert_eq!((count("matvec", "f16"), count("matvec", "q4_k")), (18, 0));
        assert_eq!(count("attention_decode", "f16"), 3 * DEPTHS.len());
        for tunable in &all {
            let usual = tunable.usual(&h200);
            assert!(!tunable.candidates(&h200).is_empty(), "{tunable:?}");
            assert!(usual.iter().all(|&n| n > 0), "{tunable:?}");
            if let Tunable::Attention(_, [n, ..]) = *tunable {
                assert!(tunable.like()[0][0] <= n && n <= tunable.like()[0][1]);
            }
        }
        // A device without packed dots has matvecs; a software GPU neither.
        let metal = fake("metal", "Apple M3", "", DeviceKind::Integrated, 8);
        assert!(
            tunables(&metal, &["q4_k"], false)
                .iter()
                .all(|j| matches!(j, Tunable::Matvec(WeightType::Q4_K, _)))
        );
        let software = fake("vulkan", "llvmpipe", "llvmpipe Mesa 22.3.6", DeviceKind::Cpu, 8);
        assert_eq!(tunables(&software, &["q4_k", "f16"], true).len(), 1);
    }
}
