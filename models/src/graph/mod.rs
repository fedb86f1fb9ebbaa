//! A model as a graph of nodes: the only place that knows the order of operations.
//!
//! [`Graph::plan`] builds the nodes of one program from the spec ([`blocks`]), puts several into one where a device has
//! an op for them ([`fuse`]), and says where the values between them lie ([`live`]). [`Graph::record`] turns nodes into
//! dispatches. What `fuse` does not know stays as it is: a new kind of block is right first and fast later.

mod blocks;
mod build;
mod cost;
mod fuse;
mod live;
mod node;
mod record;

use weft_kernels::Budget;
use weft_kernels::ops::attention::{CacheShape, Sequences, decode};
use weft_kernels::ops::split_k::STREAMS;
use weft_runtime::Caps;

use crate::kv::Shapes;
use crate::lora::Lora;
use crate::spec::Spec;
use crate::weights::Layout;
use node::{Info, Node, Value};

pub(crate) use record::{Memory, Sums, activation};

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
    /// Whether steps of one token multiply in integers, chained.
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
    /// Those, with the residual stream before the first and after each layer, and the normed output.
    Taps,
    /// Nothing but sums of squares of what each matrix multiplies, the head's among them or not.
    Sums { head: bool },
}

impl Pass {
    /// Tokens of one sequence.
    pub(crate) fn one(tokens: u32, positions: u32, want: Want) -> Pass {
        Pass { tokens, sequences: Sequences::One, positions, want }
    }

    /// Positions that a layer's cache holds of a sequence at most, of so many that there are.
    fn held(cache: &CacheShape, positions: u32) -> u32 {
        cache.ring.map_or(positions, |ring| positions.min(ring.next_power_of_two()))
    }

    /// Whether it is a step of decoding: of one token of each sequence.
    fn steps(&self) -> bool {
        self.tokens == 1 || self.sequences != Sequences::One
    }
}

/// Splits of the attention's keys for a program of `tokens` tokens when the cache holds up to `positions`: one token
/// alone cannot fill a GPU otherwise.
fn splits(tokens: u32, positions: u32) -> u32 {
    if tokens > 1 { 1 } else { decode::most_splits(positions) }
}

/// A planned program.
pub(crate) struct Graph {
    nodes: Vec<Node>,
    values: Vec<Info>,
    places: live::Places,
    pass: Pass,
    /// Logits `[rows, vocabulary]` f32, where there are any.
    logits: Option<Value>,
}

impl Graph {
    /// Plans the program of a pass.
    pub(crate) fn plan(f: &Frame<'_>, pass: Pass) -> Graph {
        let mut b = build::Builder::new(f, pass);
        let logits = blocks::model(&mut b);
        b.formats();
        let build::Builder { nodes, mut values, .. } = b;
        let nodes = fuse::fuse(f, pass, nodes, &mut values);
        let places = live::Places::of(&nodes, &values, f.budget.align);
        Graph { nodes, values, places, pass, logits }
    }

    /// Bytes of activations.
    pub(crate) fn bytes(&self) -> u64 {
        self.places.total()
    }

    /// Bytes of activations for every batch of at most `tokens` of one sequence, whatever is wanted of `wants`: a few
    /// tokens can take more than many.
    pub(crate) fn most_bytes(f: &Frame<'_>, tokens: u32, wants: &[Want]) -> u64 {
        let context = f.kv.context();
        let bytes = |(tokens, &want): (u32, &Want)| Graph::plan(f, Pass::one(tokens, context, want)).bytes();
        let sizes = [1, tokens.min(STREAMS), tokens];
        sizes.iter().flat_map(|&t| wants.iter().map(move |w| (t, w))).map(bytes).max().unwrap_or(0)
    }

    /// The largest batch of at most `wanted` tokens whose activations fit the budget: each value in a binding, all of
    /// them in a buffer, and no product takes too long.
    pub(crate) fn fitting_chunk(f: &Frame<'_>, wanted: u32, want: Want) -> u32 {
        let (spec, budget) = (f.spec, f.budget);
        let mut tokens = wanted.max(1);
        while tokens > 1 {
            let bytes = Graph::most_bytes(f, tokens, &[want]);
            let logits = if want == Want::Cache { 0 } else { spec.vocabulary };
            let widest = u64::from(tokens) * u64::from(logits) * 4;
            let layers = spec.blocks.iter().map(|b| b.attention.qkv_width());
            let rows = layers.max().unwrap_or(0).max(2 * spec.feed_forward()).max(logits);
            let flops = 2.0 * f64::from(tokens) * f64::from(rows) * f64::from(spec.width);
            let fits = bytes <= budget.max_buffer && widest <= budget.max_binding;
            if fits && flops <= budget.dispatch_flops {
                break;
            }
            tokens = tokens.div_ceil(2);
        }
        tokens
    }
}
