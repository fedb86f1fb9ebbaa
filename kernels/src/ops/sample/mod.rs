//! Draws the next token on the GPU and advances the state, so that the next step needs no host.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

pub use crate::layout::{IDLE, State};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, params, record, split_rows};

/// The token of a row that has a logit which is NaN or infinite. No vocabulary is that large.
pub const NOT_FINITE: u32 = u32::MAX - 1;

params! {
    pub struct Params {
        pub vocab: u32,
        pub tokens: u32,
        pub capacity: u32,
        pub chunks: u32,
    }
}

/// Most chunks that the kernel keeps a list of.
const MAX_CHUNKS: u32 = 1024;

/// Logits in a chunk: 256 up to vocabularies of 262,144.
fn chunk(vocab: u32) -> u32 {
    vocab.div_ceil(MAX_CHUNKS).next_power_of_two().max(256)
}

/// Bytes of scratch: the largest logit of each chunk of each slot.
pub fn scratch_bytes(vocab: u32, slots: u32) -> u64 {
    u64::from(vocab.div_ceil(chunk(vocab))) * 4 * u64::from(slots)
}

/// Two dispatches for each range of slots that fits: the chunks' maxima, then the draw. Operands: state,
/// logits, maxima, ids, history.
///
/// # Errors
/// A vocabulary whose logits exceed a binding.
pub fn plan(
    vocab: u32,
    slots: u32,
    tokens: u32,
    capacity: u32,
    budget: &Budget,
) -> std::result::Result<Vec<[Dispatch<Params>; 2]>, PlanError> {
    let row = u64::from(vocab) * 4;
    if row > budget.max_binding {
        let (needed, allowed) = (row, budget.max_binding);
        return Err(PlanError::DoesNotFit { op: "sample", what: "a row of logits", needed, allowed });
    }
    let chunks = vocab.div_ceil(chunk(vocab));
    let params = Params { vocab, tokens, capacity, chunks };
    // Bytes of a slot in each operand.
    let rows = [size_of::<State>() as u64, row, u64::from(chunks) * 4, 4, u64::from(capacity) * 4];
    Ok(split_rows("sample", slots, &rows, budget)?
        .into_iter()
        .map(|r| {
            let n = r.end - r.start;
            let bind = |operand: usize| Bind {
                operand,
                offset: u64::from(r.start) * rows[operand],
                size: u64::from(n) * rows[operand],
            };
            let bytes = (u64::from(n) * rows[1]) as f64;
            let cost = Cost { bytes, flops: bytes };
            [
                Dispatch { params, binds: [0, 1, 2, 4].map(bind).into(), grid: [chunks, n, 1], cost },
                Dispatch {
                    params,
                    binds: (0..5).map(bind).collect(),
                    grid: [n, 1, 1],
                    // Without top-k the draw walks all logits some twelve times.
                    cost: Cost { bytes: bytes * 12.0, flops: bytes * 12.0 },
                },
            ]
        })
        .collect())
}

fn name(kernel: &str, chunk: u32) -> String {
    format!("sample_{kernel}_{chunk}_f32")
}

fn chunks_shader(chunk: u32) -> Shader {
    let parts = [include_str!("../../wgsl/reduce.wgsl"), include_str!("chunks.wgsl")];
    Shader {
        name: name("chunks", chunk),
        source: compose(&[], &[("CHUNK", chunk)], &parts),
        bindings: vec![Access::Read, Access::ReadWrite, Access::ReadWrite, Access::Read],
    }
}

/// The line of kernel.wgsl that loads the slot's state, and what stands for it in a browser. A browser takes no barrier
/// behind a branch unless it sees that all invocations take it alike, and memory that is written is not seen to hold
/// the same for all. Natively it would cost a barrier.
const LOADED: &str = "    let state = states[slot];\n";
const HANDED: &str = "    if (lid == 0u) {\n        handed = states[slot];\n    }\n    let state = workgroupUniformLoad(&handed);\n";

/// What a draw is called: one for browsers has a name of its own.
fn draw_name(browser: bool) -> &'static str {
    if browser { "draw_handed" } else { "draw" }
}

fn draw_shader(chunk: u32, browser: bool) -> Shader {
    let kernel = include_str!("kernel.wgsl");
    let handed = || format!("{}\nvar<workgroup> handed: State;\n", kernel.replacen(LOADED, HANDED, 1));
    let kernel = if browser { handed() } else { kernel.to_owned() };
    Shader {
        name: name(draw_name(browser), chunk),
        source: compose(&[], &[("CHUNK", chunk), ("MAX_CHUNKS", MAX_CHUNKS)], &[&kernel]),
        bindings: vec![Access::ReadWrite; 5],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![
        (chunks_shader(256), Params::FIELDS),
        (draw_shader(256, false), Params::FIELDS),
        (draw_shader(256, true), Params::FIELDS),
    ]
}

/// The operands of the draw of a token for each of `slots` slots, after a batch of `tokens` of each.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// A [`State`] for each slot, of u32 and f32.
    pub state: &'a Slice,
    /// Logits, `[slots, vocab]` f32.
    pub logits: &'a Slice,
    /// [`scratch_bytes`] of activations, f32.
    pub maxima: &'a Slice,
    /// The tokens drawn, `[slots]` u32.
    pub ids: &'a Slice,
    /// The tokens so far, `[slots, capacity]` u32.
    pub history: &'a Slice,
    /// Logits of a slot.
    pub vocab: u32,
    /// Slots.
    pub slots: u32,
    /// Tokens of the batch, of each slot.
    pub tokens: u32,
}

impl Sample<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let Sample { state, logits, maxima, ids, history, vocab, slots, tokens } = *self;
        let size = chunk(vocab);
        let chunks = rec.gpu().pipeline(&name("chunks", size), || chunks_shader(size))?;
        let browser = rec.gpu().caps().is_browser();
        let draw = rec.gpu().pipeline(&name(draw_name(browser), size), || draw_shader(size, browser))?;
        let capacity = (history.size() / 4) as u32 / slots;
        let operands = [state, logits, maxima, ids, history];
        for [first, second] in plan(vocab, slots, tokens, capacity, rec.gpu().budget())? {
            record(rec, &chunks, &operands, &[first]);
            record(rec, &draw, &operands, &[second]);
        }
        Ok(())
    }
}
