//! How much memory a model takes before any of it is taken: one function, which the loader and `inspect` ask.

use weft_formats::gguf::File;
use weft_kernels::Budget;
use weft_kernels::ops::attention::CacheType;
use weft_kernels::ops::sample::State;
use weft_kernels::select::{self, CallShape};
use weft_runtime::{Caps, DeviceKind};

use crate::graph::{Frame, Graph, Pass, Vectors, Want};
use crate::kv::{Extent, Shapes};
use crate::spec::Pooling;
use crate::weights::{Layout, cache_type, refuse_unknown};
use crate::{Options, Result, Spec};

/// Bytes of GPU memory, by pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, repacked.
    pub weights: u64,
    /// KV cache of the whole context.
    pub kv_cache: u64,
    /// Activations of one prefill chunk.
    pub activations: u64,
    /// Sampler state, token history, rotary tables.
    pub state: u64,
    /// Tokens of a prefill chunk.
    pub chunk: u32,
}

impl MemoryPlan {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.weights + self.kv_cache + self.activations + self.state
    }

    /// Plans a model and one session of `context` positions.
    ///
    /// # Errors
    /// A cache that does not fit the budget.
    pub(crate) fn of(
        spec: &Spec,
        weights: &Layout,
        (caps, budget): (&Caps, &Budget),
        choices: &Choices,
        context: u32,
    ) -> Result<MemoryPlan> {
        let integers = choices.integers;
        if spec.is_encoder() {
            let kv = Shapes::none();
            let f = Frame { spec, weights, caps, budget, kv: &kv, lora: None, integers };
            let plan = MemoryPlan::packed(&f, choices.chunk, context);
            return Ok(MemoryPlan { weights: weights.bytes(budget), ..plan });
        }
        let extent = Extent { sequences: 1, rows: 1, context, batch: choices.chunk.min(context) };
        let kv = Shapes::new(spec, choices.cache, extent, budget)?;
        let f = Frame { spec, weights, caps, budget, kv: &kv, lora: None, integers };
        Ok(MemoryPlan { weights: weights.bytes(budget), ..MemoryPlan::session(&f, choices.chunk) })
    }

    /// Plans batches of up to `chunk` tokens of whole sequences, each of `context` tokens at most, and counts no weights.
    pub(crate) fn packed(f: &Frame<'_>, chunk: u32, context: u32) -> MemoryPlan {
        let chunk = chunk.max(context);
        let pooling = f.spec.out.pooling.unwrap_or(Pooling::Mean);
        let vectors = |sequences| Vectors { sequences, pooling, normalised: true, taps: false };
        let bytes = |n| Graph::plan(f, Pass::packed(chunk, vectors(n))).bytes();
        let tables = f.spec.rotations().into_iter().map(|r| r.pairs());
        let angles = u64::from(128 + context.div_ceil(128)) * 8;
        MemoryPlan {
            weights: 0,
            kv_cache: 0,
            activations: bytes(1).max(bytes(chunk)),
            // Ids, positions, types, spans and bounds.
            state: u64::from(chunk) * 28 + tables.map(|pairs| angles * u64::from(pairs)).sum::<u64>(),
            chunk,
        }
    }

    /// Plans a session, whose batches have up to `chunk` tokens, and counts no weights.
    pub(crate) fn session(f: &Frame<'_>, chunk: u32) -> MemoryPlan {
        let context = f.kv.context();
        let chunk = Graph::fitting_chunk(f, chunk.min(context), Want::Token);
        let aligned = |bytes: u64| bytes.max(4).next_multiple_of(f.budget.align);
        let table = |pairs: u32| aligned(u64::from(128 + context.div_ceil(128)) * u64::from(pairs) * 8);
        let fixed = [
            size_of::<State>() as u64,
            u64::from(chunk) * 4,
            u64::from(context) * 4,
            u64::from(f.spec.width) * 4,
        ];
        MemoryPlan {
            weights: 0,
            kv_cache: f.kv.bytes(f.budget),
            activations: Graph::most_bytes(f, chunk, &SESSION),
            state: fixed.into_iter().map(aligned).sum::<u64>()
                + f.spec.rotations().iter().map(|r| table(r.pairs())).sum::<u64>(),
            chunk,
        }
    }
}

/// What a session computes in its activations.
const SESSION: [Want; 2] = [Want::Token, Want::Sums { head: true }];

/// What a device and a file leave open, chosen.
pub(crate) struct Choices {
    /// The most tokens of a prefill batch.
    pub(crate) chunk: u32,
    pub(crate) cache: CacheType,
    /// Whether steps of one token multiply in integers.
    pub(crate) integers: bool,
}

impl Choices {
    pub(crate) fn of(file: &File, caps: &Caps, options: &Options) -> Choices {
        let chained = || select::variant("matmul", caps, CallShape::tokens(1), |_| true) == "chain";
        Choices {
            chunk: options.chunk.unwrap_or_else(|| default_chunk(caps)).max(1),
            cache: options.cache.unwrap_or_else(|| cache_type(file)),
            integers: options.integers.unwrap_or_else(chained),
        }
    }
}

/// Tokens of a prefill batch: as many as a device needs to be busy.
fn default_chunk(caps: &Caps) -> u32 {
    match caps.kind {
        // Slow enough that a large batch would hold Ctrl-C and the progress bar.
        DeviceKind::Cpu => 64,
        // Products of 512 tokens leave half of a large GPU idle.
        DeviceKind::Discrete if caps.memory.is_some_and(|m| m >= 16 << 30) => 2048,
        _ => 512,
    }
}

/// Plans the memory that opening `file` with these options takes, and then a session of `context` positions, on a
/// device of which `caps` and `budget` are known.
///
/// # Errors
/// A tensor that is missing, unknown, of another shape or of a type that is not read; a shape that no split fits into
/// the budget.
pub fn plan(
    file: &File,
    spec: &Spec,
    context: u32,
    options: &Options,
    (caps, budget): (&Caps, &Budget),
) -> Result<MemoryPlan> {
    refuse_unknown(spec, file)?;
    let layout = Layout::of(file, spec, budget)?;
    MemoryPlan::of(spec, &layout, (caps, budget), &Choices::of(file, caps, options), context.max(1))
}
