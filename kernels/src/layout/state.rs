//! What a sampler reads and advances, and whose the tokens of a batch are.

use bytemuck::{Pod, Zeroable};

/// What the sampler reads and advances; every kernel reads `position` from its first word.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct State {
    /// Position of the next batch's first token, or [`IDLE`].
    pub position: u32,
    /// Seed of the draws.
    pub seed: u32,
    /// Keep the k largest logits; 0 keeps all.
    pub top_k: u32,
    /// Tokens that the penalty looks back.
    pub last_n: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the smallest set of this mass.
    pub top_p: f32,
    /// Keep what has at least this part of the largest probability.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens.
    pub penalty: f32,
}

/// The position of a slot that has no token in a batch of several slots.
pub const IDLE: u32 = u32::MAX;

/// Tokens of [`Sequences::Mixed`] come in groups of this size. Those of a group are of one slot and follow each other, so
/// that their queries share what is read of its keys; a token may come twice.
pub const TOGETHER: u32 = 4;

/// Whose the tokens of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequences {
    /// All of one sequence, one after the other, from the position in word 0 of the state on.
    One,
    /// Each the next token of a slot of its own, whose keys lie in blocks ([`Pages`](super::Pages)); word 0 of its
    /// [`State`] is its position, or [`IDLE`].
    Slots {
        /// Positions of a slot.
        context: u32,
    },
    /// Several tokens of any slots, [`TOGETHER`] at a time, whose keys lie in blocks: a table in the state has the position
    /// of each, or [`IDLE`], and its slot ([`Pages::mixed`](super::Pages::mixed)).
    Mixed,
}

impl Sequences {
    /// How many of `tokens` tokens in turn are of one sequence for certain.
    pub(crate) fn together(self, tokens: u32) -> u32 {
        match self {
            Sequences::One => tokens,
            Sequences::Slots { .. } => 1,
            Sequences::Mixed => TOGETHER,
        }
    }

    /// Positions of a slot; 0 for one sequence, which has the whole cache, and where tables say it.
    pub(crate) fn context(self) -> u32 {
        match self {
            Sequences::One | Sequences::Mixed => 0,
            Sequences::Slots { context } => context,
        }
    }
}

/// Bytes of a slot's state.
pub(crate) const STATE_BYTES: u64 = size_of::<State>() as u64;
