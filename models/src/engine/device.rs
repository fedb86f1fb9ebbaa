//! What the scheduler asks of a device; `gpu.rs` is a real one, and the tests have one that computes with hashes.

use super::pool::{Adapted, Group};
use crate::graph::UNSPLIT;
use crate::{Result, Sampling};

/// Positions that a token of a mixed program sees at most: it goes through all of them by itself, where those of a piece
/// go through them together.
pub(super) const MIXED_END: usize = UNSPLIT as usize;
/// Tokens of which a mixed program has a multiple, those among them that are nobody's.
pub(super) const MIXED_STEP: usize = 32;
/// Tokens of which each piece of a mixed program has a multiple: its first one is computed more than once where it has
/// fewer.
pub(super) const TOGETHER: usize = weft_kernels::layout::TOGETHER as usize;

/// How many tokens a piece of so many takes of a mixed program.
pub(super) fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of(TOGETHER)
}

/// What a device can hold.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Answers at a time.
    pub(super) slots: usize,
    /// Rows of a step at most: one for each slot, and some for guesses.
    pub(super) rows: usize,
    /// How many of them are for guesses.
    pub(super) guesses: usize,
    /// Positions of a sequence.
    pub(super) context: usize,
    /// Positions of a block.
    pub(super) block: usize,
    /// The most tokens of a piece of a prompt.
    pub(super) batch: usize,
    /// The most tokens of a piece that leaves logits of all of them.
    pub(super) scored: usize,
    /// Whether short prompts share programs.
    pub(super) together: bool,
    /// The most tokens of such a program that are told of.
    pub(super) told: usize,
    /// The pools.
    pub(super) groups: Vec<Group>,
    pub(super) vocabulary: u32,
    /// Adapters that requests can name.
    pub(super) adapters: usize,
}

/// A piece of a prompt.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) slot: usize,
    /// The tokens from the first position on, up to the end of the piece.
    pub(super) known: &'a [u32],
    /// Where in `known` the piece begins.
    pub(super) from: usize,
    /// How the token behind it is drawn, where it is the last of its prompt.
    pub(super) draw: Option<&'a Sampling>,
    /// The adapters of its answer.
    pub(super) adapters: &'a [Adapted],
    /// Whether the logits of all of its tokens come back, and none is drawn.
    pub(super) scored: bool,
    /// What follows the last tokens, one each, whose log-probabilities come back; in mixed programs alone.
    pub(super) next: &'a [u32],
}

/// What a step has to do beside what all do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Kind {
    /// Some rows are of one slot, which see what the others write.
    pub(super) shared: bool,
    /// Some rows have adapters.
    pub(super) adapted: bool,
}

/// Runs passes in the order in which they are asked for. Nothing waits but [`Device::wait`].
pub(super) trait Device {
    /// Words on their way back.
    type Ticket;

    fn layout(&self) -> &Layout;

    /// Writes entries of a slot's table, from entry `first` on.
    fn table(&mut self, group: usize, slot: usize, first: usize, ids: &[u32]) -> Result<()>;

    /// Computes a piece of a prompt; a word comes back: the token drawn, if one was to be. Where the piece is scored, its
    /// logits come back in place of that, row by row, as bits of f32.
    fn piece(&mut self, piece: &Piece<'_>) -> Result<Self::Ticket>;

    /// Computes pieces of several prompts in one program, of which none draws, is scored or has adapters, and none ends
    /// beyond the position [`MIXED_END`]. For each token that is told of, piece by piece, its
    /// [`Stats`](weft_kernels::ops::cross_entropy::Stats) come back, of which the loss alone counts; one word where there
    /// is none.
    fn mixed(&mut self, pieces: &[Piece<'_>]) -> Result<Self::Ticket>;

    /// The next step computes the last of `known` on this row, with these adapters, and so do those after it what was
    /// drawn.
    fn wake(&mut self, row: usize, known: &[u32], sampling: &Sampling, adapters: &[Adapted]) -> Result<()>;

    /// The next steps leave this row alone.
    fn sleep(&mut self, row: usize) -> Result<()>;

    /// Has a row that is asleep see and write the cache of a slot, until its own table is written.
    fn lend(&mut self, slot: usize, row: usize) -> Result<()>;

    /// Rows that a step of the first `rows` computes, those that are asleep among them.
    fn rows(&self, rows: usize) -> usize {
        rows.next_power_of_two().min(self.layout().rows)
    }

    /// A step of the rows below `rows` that are awake, with at most so many positions in the cache of each; a word for
    /// each row comes back, the token drawn.
    fn step(&mut self, rows: usize, positions: usize, kind: Kind) -> Result<Self::Ticket>;

    /// The logits of rows of what was asked for last, one row behind the other, as bits of f32: of slots of a step, or 0
    /// of a piece.
    fn logits(&mut self, rows: &[usize]) -> Result<Self::Ticket>;

    fn wait(&mut self, ticket: Self::Ticket) -> Result<Vec<u32>>;

    /// Computes from now on without what rounds activations to f16; false where nothing does, so that what is not finite
    /// stays so. What was asked for before may still come back rounded.
    fn fall_back(&mut self) -> Result<bool>;
}
