//! What an engine takes, before any of it is taken: the shapes of its caches, and bytes.

use weft_formats::gguf::File;
use weft_kernels::Budget;
use weft_kernels::layout::BLOCK;
use weft_kernels::ops::attention::{CacheType, Sequences};
use weft_kernels::select::CHAIN_TOKENS;
use weft_runtime::Caps;

use super::Options;
use super::told::told_bytes;
use crate::graph::{Frame, Graph, Pass, Want};
use crate::kv::{Extent, Group, Shapes};
use crate::lora::Lora;
use crate::plan::Choices;
use crate::weights::{Layout, refuse_unknown};
use crate::{Error, Model, Result, Spec};

/// Guesses that are worth having room for: with them a step of one slot has 8 rows.
pub const GUESSES: u32 = 7;

/// The most slots of an engine.
pub const MAX_SLOTS: u32 = 256;

/// Tokens of a prompt whose log-probabilities are asked for that are computed at a time: each leaves all of its logits.
const SCORED: u32 = 32;

/// How much memory an engine takes besides its model's weights, in bytes, before any of it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Keys and values in all blocks.
    pub cache: u64,
    /// Positions that all answers have room for together, in layers that see all of them.
    pub positions: u64,
    /// Positions of a block.
    pub block: u32,
    /// Keys and values of a block, in the layers that see all positions.
    pub block_bytes: u64,
    /// Activations of a step or of a prompt's piece, whichever takes more.
    pub activations: u64,
    /// What samplers advance, tokens so far, tables of blocks and angles.
    pub state: u64,
    /// Tokens of a prompt that are computed at a time.
    pub chunk: u32,
}

impl Plan {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.cache + self.activations + self.state
    }
}

/// The shapes of an engine's caches, and what it takes.
pub(super) struct Room {
    pub(super) shapes: Shapes,
    pub(super) groups: Vec<Group>,
    pub(super) plan: Plan,
    pub(super) slots: u32,
    /// Rows of a step at most.
    pub(super) rows: u32,
    /// How many of them are for guesses.
    pub(super) guesses: u32,
    /// Tokens at most of a piece that leaves logits of all of them.
    pub(super) scored: u32,
    /// Tokens at most of a program of several prompts that are told of.
    pub(super) told: u32,
    pub(super) context: u32,
}

impl Room {
    /// Plans for a model whose requests may have any of the adapters in `apart`.
    pub(super) fn of(model: &Model, options: &Options, apart: Option<&Lora>) -> Result<Room> {
        if model.spec().is_encoder() {
            let (file, arch) = (model.0.file.clone(), model.spec().architecture.clone());
            return Err(Error::Encoder { file, arch });
        }
        let context = options.context.unwrap_or(model.default_context());
        let none = Shapes::none();
        let frame = model.0.frame(&none, apart.or(model.1.as_deref()));
        Room::new(&frame, (model.0.chunk, model.0.cache), options, context)
    }

    /// Plans for the model of a frame, with and without its adapters, with pieces of at most `chunk` tokens and a type of cache.
    fn new(f: &Frame<'_>, (chunk, cache): (u32, CacheType), options: &Options, context: u32) -> Result<Room> {
        let (spec, budget, slots) = (f.spec, f.budget, options.slots);
        // A step has the logits of every slot in one binding.
        let fits = budget.max_binding / (u64::from(spec.vocabulary) * 4);
        let most = u64::from(MAX_SLOTS).min(fits).max(1) as u32;
        if slots == 0 || slots > most {
            return Err(Error::Slots { wanted: slots, most });
        }
        // A slot's last block counts whole: with fewer blocks, the last slot to fill its own would lose its place to another.
        let all = u64::from(slots) * u64::from(context).next_multiple_of(u64::from(BLOCK));
        if context == 0 || all > u64::from(u32::MAX) {
            return Err(Error::Context { wanted: context, most: u32::MAX / slots });
        }
        // Short prompts that share a program are more tokens than any of them.
        let sharing = if options.shares(f.caps) { slots } else { 1 };
        let batch = chunk.min(context.saturating_mul(sharing));
        let guesses = options.guesses.min(most - slots);
        // Steps have powers of two of rows: an H200 takes 2.6 ms for three chained rows of a 4B, and 2.2 for four.
        let rows = match slots + guesses {
            few if few < CHAIN_TOKENS => few.next_power_of_two().min(most),
            many => many,
        };
        let extent = Extent { sequences: slots, rows, context, batch };
        let positions = options.positions.unwrap_or(all).clamp(u64::from(context), all);
        let (shapes, groups) = Shapes::paged(spec, cache, extent, positions, budget)?;
        let frame = Frame { kv: &shapes, ..*f };
        let chunk = Graph::fitting_chunk(&frame, batch, Want::Token);
        let scored = Graph::fitting_chunk(&frame, batch.min(SCORED), Want::Logits);
        let histories = u64::from(rows + 1) * u64::from(context);
        let words = histories + u64::from(rows + chunk + spec.width);
        let plan = Plan {
            cache: shapes.bytes(budget),
            positions: positions_of(&groups).unwrap_or(positions).min(all),
            block: BLOCK,
            block_bytes: shapes.block_bytes(0),
            activations: most_activations(&frame, (rows, guesses > 0), context, chunk),
            state: state_bytes(&groups)
                + words * 4
                + rotary(spec, context).map(|t| t.len() as u64 * 8).sum::<u64>(),
            chunk,
        };
        let plan = Plan { activations: plan.activations.max(scored_activations(&frame, scored)), ..plan };
        let told = told(&frame, chunk, plan.activations);
        let plan = Plan { state: plan.state + told_bytes(told), ..plan };
        Ok(Room { scored, told, shapes, groups, plan, slots, rows, guesses, context })
    }
}

/// Plans the memory of an engine for a file that is opened with these options, besides its weights.
///
/// # Errors
/// As [`plan`](crate::plan); as [`Engine::new`](super::Engine::new), but for memory.
pub fn plan(
    file: &File,
    spec: &Spec,
    options: &crate::Options,
    room: &Options,
    (caps, budget): (&Caps, &Budget),
) -> Result<Plan> {
    refuse_unknown(spec, file)?;
    let weights = &Layout::of(file, spec, budget)?;
    let choices = Choices::of(file, caps, options);
    let none = Shapes::none();
    let frame = Frame { spec, weights, caps, budget, kv: &none, lora: None, integers: choices.integers };
    let context = room.context.or(options.context).unwrap_or(spec.context.min(4096));
    Ok(Room::new(&frame, (choices.chunk, choices.cache), room, context)?.plan)
}

/// Positions of the pool of layers that see all, if there are any.
fn positions_of(groups: &[Group]) -> Option<u64> {
    let pool = |g: &&Group| g.window == 0;
    groups.iter().find(pool).map(|g| u64::from(g.pages.chunks) * u64::from(g.pages.positions()))
}

/// Bytes of the state up to the end of the last table.
pub(super) fn state_bytes(groups: &[Group]) -> u64 {
    groups.iter().map(|g| g.pages.state_bytes()).max().unwrap_or(0)
}

/// The table of angles of each rotary embedding.
pub(super) fn rotary(spec: &Spec, context: u32) -> impl Iterator<Item = Vec<[f32; 2]>> {
    spec.rotations().into_iter().map(move |r| r.table(context))
}

/// As [`activations`], for programs with the adapters of a frame and for those without.
pub(super) fn most_activations(frame: &Frame<'_>, rows: (u32, bool), context: u32, chunk: u32) -> u64 {
    let with = frame.lora.map_or(0, |_| activations(frame, rows, context, chunk));
    activations(&Frame { lora: None, ..*frame }, rows, context, chunk).max(with)
}

/// Bytes of activations for pieces that leave logits of up to `scored` tokens.
pub(super) fn scored_activations(frame: &Frame<'_>, scored: u32) -> u64 {
    let plain = Frame { lora: None, ..*frame };
    let piece = |f, n| Graph::plan(f, Pass::one(n, frame.kv.context(), Want::Logits)).bytes();
    let bytes = |f| (1..=scored).map(|n| piece(f, n)).max().unwrap_or(0);
    bytes(&plain).max(frame.lora.map_or(0, |_| bytes(frame)))
}

/// How many tokens of a program of several prompts can be told of in the memory that other programs take: of texts that
/// are scored one token in eight, if it comes to that.
fn told(frame: &Frame<'_>, chunk: u32, activations: u64) -> u32 {
    let (spec, budget) = (frame.spec, frame.budget);
    let fits = |rows: &u32| {
        let logits = u64::from(*rows) * u64::from(spec.vocabulary);
        logits * 4 <= budget.max_binding
            && 2.0 * logits as f64 * f64::from(spec.width) <= budget.dispatch_flops
            && told_activations(frame, chunk, *rows) <= activations
    };
    let most = (chunk / 8).max(SCORED).min(chunk);
    std::iter::successors(Some(most), |rows| (*rows > 1).then_some(rows / 2)).find(fits).unwrap_or(0)
}

/// Bytes of activations for programs of several prompts, of up to `chunk` tokens, of which `told` are told of.
pub(super) fn told_activations(frame: &Frame<'_>, chunk: u32, told: u32) -> u64 {
    let bytes = |n: u32| Graph::plan(frame, Pass::mixed(n, told)).bytes();
    (5..=9).map(|i| chunk.min(1 << i)).chain([chunk]).map(bytes).max().unwrap_or(0)
}

/// Bytes of activations for steps of up to so many rows, and for pieces of up to `chunk` tokens.
fn activations(frame: &Frame<'_>, (rows, guesses): (u32, bool), context: u32, chunk: u32) -> u64 {
    let rows = (0..=rows.ilog2()).map(|i| 1 << i).chain([rows]);
    // Rows of one slot keep their queries until all keys are written.
    let kinds = if guesses { &[false, true][..] } else { &[false] };
    let step = |(rows, &shared): (u32, &bool)| {
        Graph::plan(frame, Pass { shared, ..pass(rows, context, context) }).bytes()
    };
    let steps = rows.flat_map(|n| kinds.iter().map(move |k| (n, k))).map(step).max().unwrap_or(0);
    // Small pieces have scratch that large ones have not.
    let pieces = (5..=9).map(|i| chunk.min(1 << i)).chain([chunk]);
    let pieces = pieces.map(|n| Graph::most_bytes(frame, n, &[Want::Token, Want::Cache])).max().unwrap_or(0);
    steps.max(pieces)
}

/// A step of so many rows.
pub(super) fn pass(rows: u32, context: u32, positions: u32) -> Pass {
    Pass {
        tokens: rows,
        sequences: Sequences::Slots { context },
        positions,
        want: Want::Token,
        shared: false,
    }
}
