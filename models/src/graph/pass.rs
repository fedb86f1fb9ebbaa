//! What programs are planned from, and what they are to compute.

use weft_kernels::Budget;
use weft_kernels::ops::attention::{CacheShape, Sequences, decode};
use weft_runtime::Caps;

use crate::kv::Shapes;
use crate::lora::Lora;
use crate::spec::{Pooling, Spec};
use crate::weights::Layout;

/// What graphs of a model on a device are planned from.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) weights: &'a Layout,
    pub(crate) caps: &'a Caps,
    pub(crate) budget: &'a Budget,
    /// The cache of each layer.
    pub(crate) kv: &'a Shapes,
    pub(crate) lora: Option<&'a Lora>,
    /// Whether steps of a few rows multiply in integers, chained.
    pub(crate) integers: bool,
}

/// What a program computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) tokens: u32,
    /// Whose they are.
    pub(crate) sequences: Sequences,
    /// Positions that the cache holds at most.
    pub(crate) positions: u32,
    pub(crate) want: Want,
    /// Whether some rows are of one slot, so that keys have to be written before any of them is read.
    pub(crate) shared: bool,
}

impl Frame<'_> {
    /// Whether the kernel of a decode step does a layer's attention. It takes the state of a slot, which the piece of a
    /// prompt has elsewhere.
    pub(super) fn decodes(&self, pass: Pass, layer: u32) -> bool {
        let cache = self.kv.layer(layer);
        let piece = cache.pages.is_some() && pass.sequences == Sequences::One;
        pass.steps() && !piece && decode::picked(self.caps, cache)
    }

    /// How that kernel is cut.
    pub(super) fn split(&self, pass: Pass, layer: u32) -> decode::SplitConfig {
        let a = &self.spec.blocks[layer as usize].attention;
        let sizes = [a.heads, a.kv_heads, a.head_dim];
        let (ty, positions) = (self.kv.layer(layer).ty, self.kv.held(layer, pass.positions));
        decode::SplitConfig::tuned(self.caps, sizes, ty, positions, pass.slots())
    }
}

/// What is to come out of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Want {
    /// Nothing but the cache: a prefill chunk that is not the last.
    Cache,
    /// The next token, drawn and fed back.
    Token,
    /// Logits of every position.
    Logits,
    /// Logits of so many of the tokens, which a list chooses.
    Chosen(u32),
    /// Those, with the residual stream before the first and after each layer, and the normed output.
    Taps,
    /// Nothing but sums of squares of what each matrix multiplies, the head's among them or not.
    Sums { head: bool },
    /// A vector for each of several whole sequences that lie one after the other, without a cache.
    Vectors(Vectors),
}

/// Which vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Vectors {
    pub(crate) sequences: u32,
    pub(crate) pooling: Pooling,
    /// Whether they are divided by their length.
    pub(crate) normalised: bool,
    /// Whether the residual stream before the first and after each layer comes out as well.
    pub(crate) taps: bool,
}

impl Pass {
    /// Tokens of one sequence.
    pub(crate) fn one(tokens: u32, positions: u32, want: Want) -> Pass {
        Pass { tokens, sequences: Sequences::One, positions, want, shared: false }
    }

    /// Tokens of several slots, each of which sees at most [`UNSPLIT`] positions; logits of so many of them are wanted.
    pub(crate) fn mixed(tokens: u32, chosen: u32) -> Pass {
        let want = if chosen == 0 { Want::Cache } else { Want::Chosen(chosen) };
        Pass { tokens, sequences: Sequences::Mixed, positions: UNSPLIT, want, shared: false }
    }

    /// Whole sequences of `tokens` tokens in all.
    pub(crate) fn packed(tokens: u32, vectors: Vectors) -> Pass {
        Pass { tokens, sequences: Sequences::One, positions: 0, want: Want::Vectors(vectors), shared: false }
    }

    /// Whether sequences are whole, so that keys and values come from the batch.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.want, Want::Vectors(_))
    }

    /// Whether the residual stream is asked for.
    pub(super) fn taps(&self) -> bool {
        matches!(self.want, Want::Taps | Want::Vectors(Vectors { taps: true, .. }))
    }

    /// Whether it is a step of decoding: of one token of each sequence.
    pub(super) fn steps(&self) -> bool {
        self.rows() || self.tokens == 1 && self.sequences == Sequences::One
    }

    /// Slots that its attention is cut for. Rows of one slot are cut as its step of one row is, so that what they draw is
    /// what that would.
    pub(super) fn slots(&self) -> u32 {
        if self.shared { 1 } else { self.tokens }
    }

    /// Whether its tokens are those of slots, one of each, and replayed from step to step.
    pub(super) fn rows(&self) -> bool {
        matches!(self.sequences, Sequences::Slots { .. })
    }
}

/// Splits of the attention's keys for a program of `tokens` tokens when the cache holds up to `positions`: one token
/// alone cannot fill a GPU otherwise, and neither can a few hundred that see many thousands.
pub(super) fn splits(tokens: u32, positions: u32, cache: &CacheShape) -> u32 {
    match tokens {
        1 => decode::most_splits(positions),
        // Pieces between steps are small at any depth, the batches of a session only at a prompt's end.
        2..=512 if cache.pages.is_some() && positions > UNSPLIT => (1024 / tokens).clamp(1, 8),
        _ => 1,
    }
}

/// Positions that a piece's attention goes through in one go.
pub(crate) const UNSPLIT: u32 = 1024;
