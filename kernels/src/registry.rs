//! One table of cases for every op: what `weft kernels` and the tests run.
//!
//! A case makes its inputs from a seed, runs the op on a device under that device's budget, and
//! compares with a reference in f64. Inputs carry planted outliers, because uniform noise hides an
//! unstable softmax or a norm that overflows; outputs are poisoned with NaN first and followed by
//! sentinels that must survive.

mod gradients;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

#[cfg(test)]
pub(crate) use gradients::assert_gradient;
pub(crate) use gradients::{Gradient, Gradients};
use weft_runtime::{DeviceKind, Gpu, Pool, Shader, Slice};

use crate::ops::Format;
use crate::{Fields, Result, Weight, WeightShape, WeightType, drivers, ops};

/// Dequantises blocks of a type: somebody else's code, so that a fragment and its repacking are not
/// checked against themselves. The harness passes `weft_formats::quant::dequantize`.
pub type Oracle = fn(WeightType, &[u8], &mut [f32]);

/// The variant of an op that has but one, in core WebGPU.
pub const BASELINE: &str = "baseline";

/// What a case runs: on a device, with an oracle, its inputs drawn from a seed; gives the NMSE.
type Run = dyn Fn(&Gpu, Oracle, u64) -> Result<f64> + Send + Sync;

/// One row of the table.
pub struct Case {
    /// The op, as in `ops/`.
    pub op: &'static str,
    /// The way it is computed; [`BASELINE`] for an op with one way.
    pub variant: &'static str,
    /// The type it reads or writes besides f32: of the weights, or of the cache.
    pub ty: Option<&'static str>,
    /// Shape and parameters, readable.
    pub name: String,
    /// Largest NMSE that passes.
    pub tolerance: f64,
    run: Box<Run>,
    /// Of a backward op: the same against differences of the forward op.
    differences: Option<Box<Run>>,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// NMSE within the tolerance.
    Passed(f64),
    /// NMSE beyond it; infinite where a value is no number or a sentinel is overwritten.
    Failed(f64),
    /// The op has no plan here; the reason.
    Unsupported(String),
    /// The device refused or failed.
    Error(String),
}

impl Case {
    pub(crate) fn new(
        op: &'static str,
        variant: &'static str,
        name: String,
        tolerance: f64,
        run: impl Fn(&Gpu, Oracle, u64) -> Result<f64> + Send + Sync + 'static,
    ) -> Case {
        Case { op, variant, ty: None, name, tolerance, run: Box::new(run), differences: None }
    }

    /// A case of an op that computes gradients: `weft kernels test` compares them with the reference of
    /// that op, `weft kernels grad` with central differences of the reference of the op whose gradient it is.
    pub(crate) fn backward(
        op: &'static str,
        variant: &'static str,
        name: String,
        tolerance: f64,
        run: impl Fn(&Gpu, Oracle, u64) -> Result<Gradients> + Send + Sync + 'static,
    ) -> Case {
        let run = Arc::new(run);
        let again = run.clone();
        let differences =
            move |gpu: &Gpu, oracle: Oracle, seed| Ok(again(gpu, oracle, seed)?.by_differences(seed));
        let case = Case::new(op, variant, name, tolerance, move |gpu, oracle, seed| {
            Ok(run(gpu, oracle, seed)?.by_reference())
        });
        Case { differences: Some(Box::new(differences)), ..case }
    }

    pub(crate) fn of_type(self, ty: &'static str) -> Case {
        Case { ty: Some(ty), ..self }
    }

    /// Where it belongs.
    pub fn cell(&self) -> Cell {
        (self.op, self.variant, self.ty)
    }

    /// Runs it on `gpu` with the inputs of `seed`; what is known to fail there only on demand.
    pub fn run(&self, gpu: &Gpu, oracle: Oracle, seed: u64) -> Outcome {
        let asked = gpu.caps().variants.iter().any(|v| v == self.variant);
        if let Some(f) = drivers::failure(gpu.caps(), self.op, self.variant).filter(|_| !asked) {
            return Outcome::Unsupported(format!("known to fail here: {} ({})", f.what, f.link));
        }
        match (self.run)(gpu, oracle, seed) {
            Ok(nmse) if nmse <= self.tolerance => Outcome::Passed(nmse),
            Ok(nmse) => Outcome::Failed(nmse),
            Err(crate::Error::Plan(e)) => Outcome::Unsupported(e.to_string()),
            Err(e) => Outcome::Error(e.to_string()),
        }
    }
}

/// Op, variant and type: a cell of the capability matrix.
pub type Cell = (&'static str, &'static str, Option<&'static str>);

/// The cells that no case is for, because the variant never takes the type or the device has no such
/// variant at all, with the reason.
pub fn absent(gpu: &Gpu) -> Vec<(Cell, String)> {
    let there: HashSet<Cell> = cases().iter().map(Case::cell).collect();
    let mut all = Vec::new();
    for variant in ops::matmul::Variant::ALL {
        for &ty in WeightType::ALL {
            let tokens = match variant {
                ops::matmul::Variant::Matvec | ops::matmul::Variant::MatvecDot => 1,
                _ => 64,
            };
            let why = variant.supports(gpu.caps(), ty, tokens).err();
            all.push((("matmul", variant.name(), Some(ty.name())), why));
        }
    }
    for variant in ops::attention::Variant::ALL {
        for ty in ops::attention::CacheType::ALL {
            let cache = ops::attention::CacheShape::new(ty, 64, 1, 64, gpu.budget());
            let why = cache.ok().and_then(|c| variant.supports(gpu.caps(), &c).err());
            all.push((("attention", variant.name(), Some(ty.name())), why));
        }
    }
    all.into_iter()
        .filter(|(cell, _)| !there.contains(cell))
        .map(|(cell, why)| (cell, why.unwrap_or("no case").to_owned()))
        .collect()
}

/// Some of the cases: of each op, variant and type the first and every fourth after it.
pub fn each_cell(cases: Vec<Case>) -> Vec<Case> {
    let mut seen = HashMap::new();
    cases
        .into_iter()
        .filter(|c| {
            let n: &mut u32 = seen.entry(c.cell()).or_default();
            *n += 1;
            *n % 4 == 1
        })
        .collect()
}

/// Fewer of them, for a minute: every op in every variant, and every type; but of the products, whose shaders are many,
/// each type in one variant, whose turn it is.
pub fn quick(cases: Vec<Case>) -> Vec<Case> {
    let mut variants: HashMap<_, Vec<_>> = HashMap::new();
    for c in &cases {
        let of_type = variants.entry((c.op, c.ty)).or_default();
        if !of_type.contains(&c.variant) {
            of_type.push(c.variant);
        }
    }
    let taken = |c: &Case| {
        let ty = WeightType::ALL.iter().position(|t| Some(t.name()) == c.ty).unwrap_or(0);
        let turns = &variants[&(c.op, c.ty)];
        !c.op.starts_with("matmul") || turns[ty % turns.len()] == c.variant
    };
    each_cell(cases.into_iter().filter(taken).collect())
}

/// The devices that cases run on: one; a software GPU, which compiles in its queue's thread, once for each core.
///
/// # Errors
/// As [`crate::open`].
pub async fn devices(options: &weft_runtime::Options) -> std::result::Result<Vec<Gpu>, weft_runtime::Error> {
    let mut all = vec![crate::open(options).await?];
    if all[0].caps().kind == DeviceKind::Cpu {
        while all.len() < cores() {
            all.push(crate::open(options).await?);
        }
    }
    Ok(all)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()).min(8)
}

/// Runs `cases` on all cores, telling each one's outcome and how long it took, in order. What `told` returns stops
/// the rest. Shaders take a software GPU most of the time to compile, and the references most of it elsewhere.
/// Neighbours of one op, variant and type share shaders, and so a thread and a device.
///
/// # Errors
/// What `told` returns.
pub fn run_all<E>(
    gpus: &[Gpu],
    cases: &[Case],
    oracle: Oracle,
    seed: u64,
    mut told: impl FnMut(&Case, Outcome, Duration) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let run = |case: &Case, gpu: &Gpu| {
        let start = Instant::now();
        let outcome = case.run(gpu, oracle, seed);
        (outcome, start.elapsed())
    };
    if cfg!(target_arch = "wasm32") || cores() == 1 {
        return cases.iter().try_for_each(|case| {
            let (outcome, took) = run(case, &gpus[0]);
            told(case, outcome, took)
        });
    }
    let mut starts: Vec<usize> =
        (0..cases.len()).filter(|&i| i == 0 || cases[i].cell() != cases[i - 1].cell()).collect();
    starts.push(cases.len());
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|s| {
        for gpu in gpus.iter().cycle().take(cores()) {
            let (sender, next, starts, run) = (sender.clone(), &next, &starts, &run);
            s.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&[from, to]) = starts.get(at..at + 2) else { break };
                    for (at, case) in (from..).zip(&cases[from..to]) {
                        if sender.send((at, run(case, gpu))).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        let mut early = HashMap::new();
        for (at, case) in cases.iter().enumerate() {
            let (outcome, took) = loop {
                if let Some(done) = early.remove(&at) {
                    break done;
                }
                let (which, done) = receiver.recv().expect("a thread panicked");
                early.insert(which, done);
            };
            if let Err(e) = told(case, outcome, took) {
                // Nobody takes another one.
                next.store(starts.len(), Ordering::Relaxed);
                return Err(e);
            }
        }
        Ok(())
    })
}

/// Every case of every op.
pub fn cases() -> Vec<Case> {
    [
        ops::embed::cases::cases(),
        ops::rmsnorm::cases::cases(),
        ops::quantize::cases::cases(),
        ops::matmul::cases::cases(),
        ops::rope::cases::cases(),
        ops::router::cases::cases(),
        ops::qk_norm_rope::cases::cases(),
        ops::attention::cases::cases(),
        ops::swiglu::cases::cases(),
        ops::cast::cases::cases(),
        ops::dropout::cases::cases(),
        ops::lora::cases::cases(),
        ops::gather::cases::cases(),
        ops::cross_entropy::cases::cases(),
        ops::add::cases::cases(),
        ops::split_k::cases::cases(),
        ops::adamw::cases::cases(),
        ops::sample::cases::cases(),
        ops::imatrix::cases::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every case of the ops that compute gradients, against differences of the ops whose gradients they are.
pub fn gradients() -> Vec<Case> {
    cases().into_iter().filter_map(|c| Some(Case { run: c.differences?, differences: None, ..c })).collect()
}

/// Every shader of every op with the fields of its parameters: what is validated without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    [
        ops::embed::shaders(),
        ops::rmsnorm::shaders(),
        ops::quantize::shaders(),
        ops::matmul::shaders(),
        ops::rope::shaders(),
        ops::router::shaders(),
        ops::qk_norm_rope::shaders(),
        ops::attention::shaders(),
        ops::swiglu::shaders(),
        ops::cast::shaders(),
        ops::dropout::shaders(),
        ops::lora::shaders(),
        ops::gather::shaders(),
        ops::cross_entropy::shaders(),
        ops::add::shaders(),
        ops::split_k::shaders(),
        ops::adamw::shaders(),
        ops::sample::shaders(),
        ops::imatrix::shaders(),
        crate::perf::shaders(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Normalised mean squared error: sum (got - want)^2 / sum want^2; infinite where something is no number, so that
/// the largest of several errors is one.
pub fn nmse(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - w).powi(2)).sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    let error = if norm == 0.0 { error } else { error / norm };
    if error.is_nan() { f64::INFINITY } else { error }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the inputs of the cases.
pub struct Rng(u64);

impl Rng {
    /// A stream for `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The stream of a case: what tells it from its neighbours, and the seed of all inputs. Seed 0
    /// leaves the first alone.
    pub(crate) fn seeded(case: u32, seed: u64) -> Rng {
        Rng(u64::from(case).wrapping_add(seed.wrapping_mul(0xd6e8_feb8_6659_fd93)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, n).
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// About normal: the sum of twelve uniforms, less 6.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.bits() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }

    /// `n` values about normal; among them some ten times as large, some so small that they are not normal,
    /// and stretches of zeros.
    pub fn values(&mut self, n: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..n).map(|_| self.normal()).collect();
        for at in 0..n {
            match self.below(97 * 8) {
                0..8 => values[at] *= 10.0,
                8..16 => values[at] *= 1e-39,
                16 => values[at..n.min(at + 40)].fill(0.0),
                _ => {}
            }
        }
        values
    }
}

const SENTINELS: usize = 1024;
const SENTINEL: f32 = 12_345.678;

/// An output buffer: poisoned, with sentinels behind it.
pub(crate) struct Guarded {
    whole: Slice,
    /// The output itself.
    pub(crate) slice: Slice,
    len: usize,
}

impl Guarded {
    /// `len` floats of NaN, or `initial`.
    pub(crate) fn new(gpu: &Gpu, len: usize, initial: Option<&[f32]>) -> Result<Guarded> {
        let mut data = initial.map_or_else(|| vec![f32::NAN; len], <[f32]>::to_vec);
        data.extend([SENTINEL; SENTINELS]);
        let whole = gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&data), "case output")?;
        let slice = whole.range(0, len as u64 * 4);
        Ok(Guarded { whole, slice, len })
    }

    /// The output, or `None` where a sentinel changed.
    pub(crate) fn read(&self, gpu: &Gpu) -> Result<Option<Vec<f32>>> {
        let mut data: Vec<f32> = gpu.read_vec(&self.whole)?;
        let intact = data[self.len..].iter().all(|&s| s == SENTINEL);
        data.truncate(self.len);
        Ok(intact.then_some(data))
    }

    /// As [`Guarded::compare`], of values in a format of choice.
    pub(crate) fn compare_as(&self, gpu: &Gpu, format: Format, want: &[f64]) -> Result<f64> {
        let Some(words) = self.read(gpu)? else { return Ok(f64::INFINITY) };
        let got = match format {
            Format::F32 => words,
            Format::F16 => bytemuck::cast_slice::<f32, u16>(&words)
                .iter()
                .map(|&h| half::f16::from_bits(h).to_f32())
                .collect(),
        };
        Ok(nmse(&got, want))
    }

    /// NMSE of the output against `want`; infinite where a sentinel changed.
    pub(crate) fn compare(&self, gpu: &Gpu, want: &[f64]) -> Result<f64> {
        Ok(self.read(gpu)?.map_or(f64::INFINITY, |got| nmse(&got, want)))
    }
}

/// An input among the activations.
pub(crate) fn input(gpu: &Gpu, data: &[f32]) -> Result<Slice> {
    Ok(gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(data), "case input")?)
}

/// Random blocks of `ty` with finite scales, as a file holds them.
pub fn random_blocks(ty: WeightType, rows: usize, cols: usize, rng: &mut Rng) -> Vec<u8> {
    let layout = ty.layout();
    let blocks = rows * cols / layout.block;
    match ty {
        WeightType::F32 => return bytemuck::cast_slice(&rng.values(rows * cols)).to_vec(),
        WeightType::F16 => {
            return rng
                .values(rows * cols)
                .into_iter()
                .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                .collect();
        }
        WeightType::BF16 => {
            return rng
                .values(rows * cols)
                .into_iter()
                .flat_map(|v| half::bf16::from_f32(v).to_le_bytes())
                .collect();
        }
        _ => {}
    }
    let mut out: Vec<u8> = (0..blocks * layout.bytes).map(|_| rng.bits() as u8).collect();
    for block in out.chunks_exact_mut(layout.bytes) {
        put_scales(ty, block, || half::f16::from_f32(rng.normal() * 0.01));
        match ty {
            // Exponents about 2^-6.
            WeightType::MXFP4 => block[0] = 118 + rng.below(6) as u8,
            // Scales about 1, some with the bit that is ignored, some the NaN that is read as 0.
            WeightType::NVFP4 => {
                block[..4].fill_with(|| [40, 40, 168, 127][rng.below(4)] | rng.below(24) as u8);
            }
            _ => {}
        }
    }
    out
}

/// Writes the f16 scales of a block, wherever its type has them.
pub(crate) fn put_scales(ty: WeightType, block: &mut [u8], mut d: impl FnMut() -> half::f16) {
    let at: &[usize] = match ty {
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4_K | WeightType::Q5_K => &[0, 2],
        WeightType::Q2_K => &[80, 82],
        WeightType::Q3_K => &[108],
        WeightType::Q6_K => &[208],
        WeightType::TQ1_0 => &[52],
        WeightType::TQ2_0 => &[64],
        WeightType::MXFP4 | WeightType::NVFP4 => &[],
        WeightType::IQ1_M => {
            // In the top nibbles of the last four u16.
            let d = d().to_bits();
            for i in 0..4 {
                let high = &mut block[49 + 2 * i];
                *high = *high & 15 | ((d >> (4 * i)) as u8) << 4;
            }
            &[]
        }
        _ => &[0],
    };
    for &at in at {
        block[at..at + 2].copy_from_slice(&d().to_le_bytes());
    }
}

/// Random weights on the GPU and, dequantised by the oracle, on the host.
pub(crate) fn random_weight(
    gpu: &Gpu,
    oracle: Oracle,
    ty: WeightType,
    rows: u32,
    cols: u32,
    rng: &mut Rng,
) -> Result<(Weight, Vec<f32>)> {
    weight_of(gpu, oracle, ty, rows, cols, &random_blocks(ty, rows as usize, cols as usize, rng))
}

/// The weights of a file's blocks on the GPU and, dequantised by the oracle, on the host.
pub(crate) fn weight_of(
    gpu: &Gpu,
    oracle: Oracle,
    ty: WeightType,
    rows: u32,
    cols: u32,
    bytes: &[u8],
) -> Result<(Weight, Vec<f32>)> {
    let mut values = vec![0.0; (rows * cols) as usize];
    oracle(ty, bytes, &mut values);
    let shape = WeightShape::new(ty, rows, cols, gpu.budget())?;
    Ok((Weight::upload(gpu, shape, &[bytes], "case weight")?, values))
}
