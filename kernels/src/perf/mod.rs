//! How fast the kernels are: products at the sizes of real models, beside what a copy and the best
//! product reach on the same device in the same minute.
//!
//! Times are of programs with many dispatches, replayed many times. No two neighbours of a program touch the
//! same memory: weights rotate over forty times what a cache holds, so that hardly a byte is still there when
//! it is read again, and x and y over buffers of their own, because wgpu puts a barrier between dispatches
//! that write one buffer.

mod attention;
mod chain;
mod experts;
pub mod ops;
pub mod sweep;
pub mod tune;

use std::time::{Duration, Instant};

pub use attention::{Attention, How, attention, attention_cuts, attentions};

use weft_runtime::{Access, Cost, DeviceKind, Gpu, Pool, Program, Recorder, Shader, Slice};

use crate::layout::Format;
use crate::ops::matmul::{
    Columns, Coop, Direction, Epilogue, Gradient, Input, Kernel, Matvec, Variant, gradient_with, linear_with,
    matvec_with,
};
use crate::ops::quantize::{self, Quantized};
use crate::ops::split_k;
use crate::ops::tile::reference::tiles;
use crate::testing::{Rng, random_blocks};
use crate::{Error, Fields, PlanError, Result, Weight, WeightShape, WeightType, compose, fold, params};

/// How long to measure and with how much memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Replays before the first one that counts, so that clocks rise.
    pub warm_up: Duration,
    /// Replays that count, at least this long.
    pub at_least: Duration,
    /// Times that is repeated; the fastest counts.
    pub rounds: u32,
    /// Bytes that a program reads before it reads one again.
    pub distinct: u64,
    /// Dispatches of a matvec program.
    pub dispatches: usize,
    /// Buffers that x and y of other products rotate over.
    pub sets: usize,
    /// Bytes of the source of a copy.
    pub copy: u64,
    /// Side of the three matrices of a product of many tokens.
    pub side: u32,
}

impl Effort {
    /// What suits a kind of device; `quick` for an impression.
    pub fn of(kind: DeviceKind, quick: bool) -> Effort {
        let discrete = Effort {
            warm_up: Duration::from_millis(500),
            at_least: Duration::from_millis(60),
            rounds: 3,
            distinct: 2 << 30,
            dispatches: 128,
            sets: 128,
            copy: 256 << 20,
            side: 4096,
        };
        let full = match kind {
            DeviceKind::Discrete => discrete,
            DeviceKind::Cpu => Effort {
                warm_up: Duration::ZERO,
                rounds: 1,
                distinct: 0,
                dispatches: 1,
                sets: 1,
                copy: 32 << 20,
                side: 256,
                ..discrete
            },
            _ => Effort {
                distinct: 96 << 20,
                dispatches: 32,
                sets: 32,
                copy: 64 << 20,
                side: 1024,
                ..discrete
            },
        };
        match quick {
            true => Effort { warm_up: full.warm_up / 5, rounds: 1, distinct: full.distinct / 4, ..full },
            false => full,
        }
    }
}

/// A product to measure: `tokens` rows of `cols` inputs with a `rows` x `cols` weight.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Product {
    pub variant: Variant,
    pub ty: WeightType,
    pub rows: u32,
    pub cols: u32,
    pub tokens: u32,
    /// `y = x w^T`, or its input gradient.
    pub direction: Direction,
    /// The tile, where it is not the one that a device and a shape get.
    pub kernel: Option<Kernel>,
    /// How x lies in memory.
    pub x: Format,
}

impl Product {
    /// `y = x w^T` as a device computes it.
    fn forward(variant: Variant, ty: WeightType, rows: u32, cols: u32, tokens: u32) -> Product {
        let direction = Direction::Forward;
        Product { variant, ty, rows, cols, tokens, direction, kernel: None, x: Format::F32 }
    }

    /// Bytes of the weight, as its type stores it.
    pub fn bytes(&self) -> f64 {
        self.ty.row_bytes(self.cols as usize) as f64 * f64::from(self.rows)
    }

    /// Values of a token of what is read, and of what is written.
    fn sides(&self) -> (u32, u32) {
        match self.direction {
            Direction::Forward => (self.cols, self.rows),
            Direction::Gradient => (self.rows, self.cols),
        }
    }

    /// Multiplications and additions.
    pub fn flops(&self) -> f64 {
        2.0 * f64::from(self.rows) * f64::from(self.cols) * f64::from(self.tokens)
    }
}

/// The feed-forward matrices of an 8B and of a 4B model, outputs x inputs.
pub const MATVEC_SHAPES: [(u32, u32); 2] = [(4096, 14_336), (2560, 9728)];

/// Every type as every variant that takes it: one token at [`MATVEC_SHAPES`], and as many tokens as
/// rows at `side`, with the input gradient.
pub fn products(side: u32) -> Vec<Product> {
    let mut all = Vec::new();
    let plain = Product::forward;
    for (rows, cols) in MATVEC_SHAPES {
        for &ty in WeightType::ALL {
            for variant in [Variant::Matvec, Variant::MatvecDot] {
                if variant == Variant::Matvec || ty.layout().has_ints() {
                    all.push(plain(variant, ty, rows, cols, 1));
                }
            }
        }
    }
    for &ty in WeightType::ALL {
        for variant in Variant::ALL.into_iter().filter(|v| !v.few()) {
            if variant != Variant::TiledDot || ty.layout().has_ints() {
                // As a decoder calls it: cooperative products take f16.
                let x = left_side(variant, Format::F16);
                let tokens = if variant == Variant::Sliced { side.min(split_k::SLOTS) } else { side };
                let forward = Product { x, ..plain(variant, ty, side, side, tokens) };
                all.push(forward);
                if matches!(variant, Variant::Tiled | Variant::Coop | Variant::Direct) {
                    let x = left_side(variant, Format::F32);
                    all.push(Product { direction: Direction::Gradient, x, ..forward });
                }
            }
        }
    }
    all
}

/// How a variant takes its left side, where a cooperative product is given `coop`. Tiles are of 16 here; on
/// devices whose matrices are smaller [`product`] makes them smaller.
fn left_side(variant: Variant, coop: Format) -> Format {
    match variant {
        Variant::Coop => coop,
        Variant::Direct | Variant::Sliced => Format::Tiles { side: 16 },
        _ => Format::F32,
    }
}

/// The matrices of a layer of a 4B model, outputs x inputs: queries, keys and values; output; gate and
/// up; down.
const LAYER: [(u32, u32); 4] = [(6144, 2560), (2560, 4096), (19_456, 2560), (2560, 9728)];

/// Every tile of the kernels for many tokens, with x in f32 and where it can be in f16: what the choice
/// in [`Kernel::pick`] comes from. All types at `side`, and a layer with half as many tokens for the two
/// types that most models are made of.
pub fn all_tiles(gpu: &Gpu, side: u32) -> Vec<Product> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL {
        let layer = matches!(ty, WeightType::F16 | WeightType::Q4_K);
        // Slots of a GPU that is fast enough for many.
        let slots = if gpu.caps().kind == DeviceKind::Discrete { &[16, 32, 64][..] } else { &[] };
        let batches = || slots.iter().copied().chain([side / 2]);
        let layer = LAYER.iter().filter(|_| layer).flat_map(|&(r, c)| batches().map(move |n| (r, c, n)));
        for (rows, cols, tokens) in [(side, side, side)].into_iter().chain(layer) {
            for variant in Variant::ALL.into_iter().filter(|v| !v.few()) {
                if variant.supports(gpu.caps(), ty, tokens).is_err() {
                    continue;
                }
                for direction in [Direction::Forward, Direction::Gradient] {
                    let few = tokens <= split_k::SLOTS && direction == Direction::Gradient;
                    for kernel in Kernel::all(variant, direction, gpu.caps()).into_iter().filter(|_| !few) {
                        let p = Product {
                            variant,
                            ty,
                            rows,
                            cols,
                            tokens,
                            direction,
                            kernel: Some(kernel),
                            x: left_side(variant, Format::F32),
                        };
                        all.push(p);
                        if (variant, direction) == (Variant::Coop, Direction::Forward) {
                            all.push(Product { x: Format::F16, ..p });
                        }
                    }
                }
            }
        }
    }
    all
}

impl Effort {
    /// As [`Effort::of`], for the many products of [`tiles`]: one buffer each, so that a product waits
    /// for the last one as in a model, and less of everything.
    pub fn of_tiles(kind: DeviceKind, quick: bool) -> Effort {
        let full = Effort::of(kind, quick);
        Effort {
            warm_up: full.warm_up.min(Duration::from_millis(150)),
            at_least: full.at_least / 2,
            sets: 1,
            rounds: 2,
            ..full
        }
    }
}

/// Seconds of one product, and the constants that it took: of a matvec, the fastest of the one that decode
/// uses and a few others.
///
/// # Errors
/// [`Error::Plan`] where the device lacks what the variant needs; out of memory; a fault.
pub fn product(gpu: &Gpu, effort: &Effort, p: &Product) -> Result<(f64, Option<Matvec>)> {
    let mut p = *p;
    if let (Format::Tiles { .. }, Some(coop)) = (p.x, Coop::of(gpu.caps())) {
        p.x = Format::Tiles { side: coop.side };
    }
    let p = &p;
    if let Err(why) = p.variant.supports(gpu.caps(), p.ty, p.tokens) {
        return Err(PlanError::Shape { op: p.direction.op(), what: why.into() }.into());
    }
    // Bound by the weights' bytes: none of them may come from a cache.
    let streams = p.tokens <= split_k::SLOTS;
    let (sets, dispatches, copies) = match streams {
        true => {
            let copies = (effort.distinct as f64 / p.bytes()).ceil().max(1.0) as usize;
            let dispatches = effort.dispatches.max(copies);
            (if p.variant.few() { dispatches } else { 1 }, dispatches, copies)
        }
        // Bound by arithmetic: enough that one dispatch's end and the next one's start overlap.
        false => (effort.sets.min(4), effort.sets.min(8), 1),
    };
    let weights = weights(gpu, (p.ty, p.rows, p.cols), copies)?;
    let buffers = buffers(gpu, p, sets)?;
    if p.variant.few() {
        let decode = Matvec::tuned(gpu.caps(), p.variant, p.ty, p.rows, p.cols, p.tokens);
        // A CPU is measured at what it uses.
        let others = if effort.sets > 1 { &Matvec::throughput(p.tokens)[..] } else { &[] };
        let mut best = (f64::INFINITY, None);
        let mut effort = *effort;
        for &c in others.iter().chain([&decode]) {
            let s = matvec_seconds(gpu, &effort, p, c, &weights, &buffers, dispatches)?;
            // Clocks are up.
            effort.warm_up = Duration::ZERO;
            if s < best.0 {
                best = (s, Some(c));
            }
        }
        return Ok(best);
    }
    let (left, right) = p.sides();
    let shared = split_k::few_slots_bytes(p.tokens, gpu.budget());
    let scratch = (shared > 0).then(|| gpu.alloc(Pool::Activations, shared, "perf scratch")).transpose()?;
    let mut rec = Recorder::new(gpu);
    for i in 0..dispatches {
        let (x, ints, y) = &buffers[i % sets];
        let w = &weights[i % copies];
        let input = Input { x, ints: ints.as_ref(), format: p.x };
        let pick = || Kernel::pick(p.variant, p.direction, (p.x, p.ty), gpu.caps(), right, p.tokens);
        let kernel = p.kernel.unwrap_or_else(pick);
        match p.direction {
            Direction::Forward => {
                let out = (y, Columns::all(right));
                let epilogue = Epilogue { scratch: scratch.as_ref(), ..Epilogue::default() };
                linear_with(&mut rec, kernel, w, input, out, p.tokens, epilogue)?;
            }
            Direction::Gradient => {
                let dy = Gradient { format: p.x, ..Gradient::new(x, Columns::all(left), 1.0) };
                gradient_with(&mut rec, kernel, w, dy, y, p.tokens, false)?;
            }
        }
    }
    Ok((seconds(gpu, effort, &rec.finish()?, dispatches)?, None))
}

/// Seconds of a matvec in a program of `dispatches` over all of `weights`; each waits for the one before
/// if all of them share the only set.
fn matvec_seconds(
    gpu: &Gpu,
    effort: &Effort,
    p: &Product,
    constants: Matvec,
    weights: &[Weight],
    sets: &[Buffers],
    dispatches: usize,
) -> Result<f64> {
    let mut rec = Recorder::new(gpu);
    for i in 0..dispatches {
        let (x, ints, y) = &sets[i % sets.len()];
        let input = Input { ints: ints.as_ref(), ..Input::f32(x) };
        let out = (y, Columns::all(p.rows));
        let kernel = (p.variant, constants);
        matvec_with(&mut rec, kernel, &weights[i % weights.len()], input, out, Epilogue::default())?;
    }
    seconds(gpu, effort, &rec.finish()?, dispatches)
}

fn halves(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
}

/// x, its integers if the variant reads them, and y.
type Buffers = (Slice, Option<Quantized>, Slice);

/// `sets` times what a product reads and writes besides weights.
fn buffers(gpu: &Gpu, p: &Product, sets: usize) -> Result<Vec<Buffers>> {
    let mut rng = Rng::new(1);
    let (left, right) = p.sides();
    let n = p.tokens as usize * left as usize;
    let x: Vec<f32> = (0..4096).map(|_| rng.normal()).collect();
    let x: Vec<f32> = x.into_iter().cycle().take(n).collect();
    let bytes = match p.x {
        Format::F32 => bytemuck::cast_slice(&x).to_vec(),
        Format::F16 => halves(&x),
        Format::Tiles { side } => halves(&tiles(&x, left as usize, side as usize)),
    };
    let mut rec = Recorder::new(gpu);
    let mut buffers = Vec::with_capacity(sets);
    for _ in 0..sets {
        let x = gpu.alloc_init(Pool::Activations, &bytes, "perf x")?;
        let ints = match p.variant {
            Variant::MatvecDot | Variant::TiledDot => {
                let (q, meta) = quantize::bytes(n as u64);
                let q = gpu.alloc(Pool::Activations, q, "perf x")?;
                let ints = Quantized { q, meta: gpu.alloc(Pool::Activations, meta, "perf x")? };
                match p.variant {
                    Variant::MatvecDot => quantize::quantize(&mut rec, &x, &ints, n as u32)?,
                    _ => quantize::quantize8(&mut rec, &x, &ints, n as u32)?,
                }
                Some(ints)
            }
            _ => None,
        };
        let bytes = u64::from(p.tokens) * u64::from(right) * 4;
        buffers.push((x, ints, gpu.alloc(Pool::Activations, bytes, "perf y")?));
    }
    gpu.run(&rec.finish()?, None)?;
    Ok(buffers)
}

/// Copies of one random weight: some rows of it, over and over.
fn weights(gpu: &Gpu, (ty, rows, cols): (WeightType, u32, u32), copies: usize) -> Result<Vec<Weight>> {
    let some = random_blocks(ty, rows.min(32) as usize, cols as usize, &mut Rng::new(0));
    let mut bytes = some.repeat((rows as usize).div_ceil(32));
    bytes.truncate(ty.row_bytes(cols as usize) * rows as usize);
    let shape = WeightShape::new(ty, rows, cols, gpu.budget())?;
    let first = Weight::upload(gpu, shape.clone(), &[&bytes], "perf weight")?;
    let mut all = Vec::with_capacity(copies);
    if copies > 1 {
        // Its planes, read back: repacking them anew would take most of the time.
        let slabs: Vec<Vec<u8>> =
            first.slices.iter().map(|s| gpu.read_vec(s)).collect::<std::result::Result<_, _>>()?;
        for _ in 1..copies {
            let upload = |s: &Vec<u8>| gpu.alloc_init(Pool::Weights, s, "perf weight");
            let slices = slabs.iter().map(upload).collect::<std::result::Result<_, _>>()?;
            all.push(Weight { shape: shape.clone(), slices });
        }
    }
    all.push(first);
    Ok(all)
}

/// Seconds of one of the `dispatches` equal parts of `program`. Two clocks, neither of which can flatter: the
/// host's around many replays, which pays for submits and recording, and the device's around one, in whose
/// time the end of the last part may be missing and is therefore counted as if all of it were. The shorter
/// one is nearer.
fn seconds(gpu: &Gpu, effort: &Effort, program: &Program, dispatches: usize) -> Result<f64> {
    let replay = |times: u32| -> Result<f64> {
        let start = Instant::now();
        for _ in 0..times {
            gpu.run(program, None)?;
        }
        gpu.sync()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first replay also pays for what drivers put off.
    replay(1)?;
    let mut once = replay(1)?;
    let start = Instant::now();
    while start.elapsed() < effort.warm_up {
        once = replay(4)? / 4.0;
    }
    let times = (effort.at_least.as_secs_f64() / once).ceil().clamp(1.0, 1e5) as u32;
    let mut best = f64::INFINITY;
    for _ in 0..effort.rounds.max(1) {
        best = best.min(replay(times)? / f64::from(times) / dispatches as f64);
    }
    if dispatches < 2 || gpu.caps().kind == DeviceKind::Cpu || gpu.seconds(program)?.is_none() {
        return Ok(best);
    }
    let mut clock = Vec::new();
    let start = Instant::now();
    while clock.is_empty() || start.elapsed() < effort.at_least {
        clock.push(gpu.seconds(program)?.expect("it had a clock"));
    }
    clock.sort_by(f64::total_cmp);
    Ok(best.min(clock[clock.len() / 2] / (dispatches - 1) as f64))
}

/// Operations a second of the fastest product, at F16 or, of integers, at Q8_0, and which that is: the ceiling
/// of products of many tokens.
///
/// # Errors
/// Out of memory; a fault.
pub fn matrix_rate(gpu: &Gpu, effort: &Effort) -> Result<(f64, Product)> {
    let side = effort.side;
    let of = |variant, ty, x| Product { x, ..Product::forward(variant, ty, side, side, side) };
    let (f16, f32) = (WeightType::F16, Format::F32);
    let mut best = (0.0, of(Variant::Tiled, f16, f32));
    for p in [
        of(Variant::Tiled, f16, f32),
        of(Variant::TiledF16, f16, f32),
        of(Variant::TiledDot, WeightType::Q8_0, f32),
        // As a decoder calls it.
        of(Variant::Coop, f16, Format::F16),
    ] {
        match product(gpu, effort, &p) {
            Ok((s, _)) if p.flops() / s > best.0 => best = (p.flops() / s, p),
            Ok(_) | Err(Error::Plan(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(best)
}

params! {
    /// Parameters of the copy.
    pub struct Params {
        pub n: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 256;
const EACH: u32 = 4;

fn copy_shader() -> Shader {
    Shader {
        name: "copy_u32".into(),
        source: compose(&[], &[("WG", WG), ("EACH", EACH)], &[include_str!("copy.wgsl")]),
        bindings: vec![Access::Read, Access::ReadWrite],
    }
}

/// The copy with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(copy_shader(), Params::FIELDS)]
}

/// Bytes a second of a copy, read and written.
///
/// # Errors
/// Out of memory; a fault, of which a wrong copy is one.
pub fn copy_rate(gpu: &Gpu, effort: &Effort) -> Result<f64> {
    let budget = gpu.budget();
    let size = effort.copy.min(budget.max_binding).min(budget.max_buffer) & !15;
    let pattern: Vec<u8> = (0..1 << 16).map(|i: u32| (i * 37 / 5) as u8).collect();
    let copies = (effort.distinct / size.max(1)).clamp(1, effort.sets as u64) as usize;
    let mut sources: Vec<Slice> = Vec::with_capacity(copies);
    for _ in 0..copies {
        let source = gpu.alloc(Pool::Weights, size, "perf copy")?;
        for at in (0..size).step_by(pattern.len()) {
            let n = (size - at).min(pattern.len() as u64) as usize;
            gpu.write(&source, at, &pattern[..n])?;
        }
        sources.push(source);
    }
    let targets: Vec<Slice> = (0..copies)
        .map(|_| gpu.alloc(Pool::Activations, size, "perf copy"))
        .collect::<std::result::Result<_, _>>()?;
    let pipeline = gpu.pipeline("copy_u32", copy_shader)?;
    let n = (size / 16) as u32;
    let grid = fold(n.div_ceil(WG * EACH), budget);
    let params = Params { n, grid_x: grid[0], pad: [0; 2] };
    let cost = Cost { bytes: 2.0 * size as f64, flops: 0.0 };
    let dispatches = effort.sets.min(16);
    let mut rec = Recorder::new(gpu);
    for i in 0..dispatches {
        rec.dispatch(&pipeline, &params, &[&sources[i % copies], &targets[i % copies]], grid, cost);
    }
    let each = seconds(gpu, effort, &rec.finish()?, dispatches)?;
    let tail = size.min(4096);
    let last = |s: &Slice| gpu.read_vec::<u32>(&s.range(size - tail, tail));
    if last(&sources[0])? != last(&targets[0])? {
        return Err(weft_runtime::Error::Gpu("the copy that measures bandwidth is no copy".into()).into());
    }
    Ok(cost.bytes / each)
}
