//! Which constants of the matvec kernels are fastest here, measured: what the table in
//! `ops/matmul/matvec.rs` comes from.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weft_runtime::Gpu;

use super::{Effort, Product, buffers, matvec_seconds, weights};
use crate::ops::matmul::{Matvec, Variant};
use crate::{Result, WeightType};

/// One measured kernel.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// What it computes.
    pub product: Product,
    /// How.
    pub constants: Matvec,
    /// Seconds of a dispatch among others that do not wait for each other.
    pub independent: f64,
    /// Seconds of a dispatch in a chain in which each waits for the one before, as in decode.
    pub dependent: f64,
}

/// The matrices of Qwen3-4B that the common types are measured at besides the usual: queries, keys and
/// values; output; gate and up; head.
const DECODE_SHAPES: [(u32, u32); 4] = [(6144, 2560), (2560, 4096), (19_456, 2560), (151_936, 2560)];

/// What there is to sweep: every type as its fastest variant.
pub fn products() -> Vec<Product> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL {
        let variant = if ty.layout().has_ints() { Variant::MatvecDot } else { Variant::Matvec };
        let common = matches!(
            ty,
            WeightType::F16 | WeightType::Q8_0 | WeightType::Q4_0 | WeightType::Q4_K | WeightType::Q6_K
        );
        let more = if common { &DECODE_SHAPES[..] } else { &[] };
        for &(rows, cols) in super::MATVEC_SHAPES.iter().chain(more) {
            all.push(Product::forward(variant, ty, rows, cols, 1));
        }
    }
    all
}

/// The constants worth trying.
pub fn candidates() -> Vec<Matvec> {
    let mut all = Vec::new();
    for lanes in [8, 16, 32, 64, 128] {
        for wg in [128, 256, 512] {
            // One to sixty-four rows of lanes.
            if wg < lanes || wg / lanes > 32 {
                continue;
            }
            for (rows, steps) in [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1), (8, 1)] {
                all.push(Matvec { wg, lanes, rows, steps, tokens: 1 });
            }
        }
    }
    all
}

/// Measures every candidate at each of `products`, telling `each` all of a product at a time.
///
/// # Errors
/// Out of memory; a fault.
pub fn sweep(
    gpu: &Gpu,
    effort: &Effort,
    products: &[Product],
    each: &mut dyn FnMut(&[Measured]) -> ControlFlow<()>,
) -> Result<()> {
    let most = gpu.caps().limits.max_compute_invocations_per_workgroup;
    let candidates: Vec<Matvec> = candidates().into_iter().filter(|c| c.wg <= most).collect();
    let short = Effort { warm_up: Duration::ZERO, at_least: Duration::from_millis(2), rounds: 1, ..*effort };
    let mut compiled = None;
    for p in products {
        if p.variant.supports(gpu.caps(), p.ty, p.tokens).is_err() {
            continue;
        }
        if compiled != Some(p.ty) {
            compile(gpu, p, &candidates)?;
            compiled = Some(p.ty);
        }
        let copies = (effort.distinct as f64 / p.bytes()).ceil().max(1.0) as usize;
        let weights = weights(gpu, (p.ty, p.rows, p.cols), copies)?;
        let dispatches = effort.dispatches.min(4 * copies).max(copies);
        let sets = buffers(gpu, p, dispatches)?;
        let mut measured = Vec::new();
        for &constants in &candidates {
            let time = |sets| matvec_seconds(gpu, &short, p, constants, &weights, sets, dispatches);
            measured.push(Measured {
                product: *p,
                constants,
                independent: time(&sets)?,
                dependent: time(&sets[..1])?,
            });
        }
        if each(&measured).is_break() {
            break;
        }
    }
    Ok(())
}

/// Compiles all candidates for a product's type, in parallel.
fn compile(gpu: &Gpu, p: &Product, candidates: &[Matvec]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || -> Result<()> {
        while let Some(&c) = candidates.get(next.fetch_add(1, Ordering::Relaxed)) {
            c.prepare(gpu, p.variant, p.ty)?;
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let jobs: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        jobs.into_iter().try_for_each(|j| j.join().expect("no panic"))
    })
}
