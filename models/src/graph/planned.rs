//! Planned programs.

use weft_kernels::ops::split_k::{SHARED, SLOTS};

use super::node::{Info, Node, Value};
use super::pass::{Frame, Pass, Want};
use super::{blocks, build, fuse, live};

/// A planned program.
pub(crate) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Info>,
    pub(super) places: live::Places,
    pub(super) pass: Pass,
    /// Logits `[rows, vocabulary]` f32, or vectors `[sequences, width]` f32, where there are any.
    pub(super) logits: Option<Value>,
}

impl Graph {
    /// Plans the program of a pass.
    pub(crate) fn plan(f: &Frame<'_>, pass: Pass) -> Graph {
        let mut b = build::Builder::new(f, pass);
        let logits = blocks::model(&mut b);
        b.formats();
        let build::Builder { nodes, mut values, .. } = b;
        let nodes = fuse::fuse(f, pass, nodes, &mut values);
        let alive = live::spans((0..).zip(nodes.iter().map(Node::values)), values.len());
        let places = live::Places::of(&alive, &values, f.budget.align);
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
        let sizes = [1, tokens.min(SLOTS), tokens.min(SHARED), tokens];
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
            let mut flops = 2.0 * f64::from(tokens) * f64::from(rows) * f64::from(spec.width);
            let mut widest = widest;
            for e in (0..spec.layers()).filter_map(|l| spec.experts(l)) {
                let choices = u64::from(tokens) * u64::from(e.used);
                widest = widest.max(choices * u64::from(spec.width.max(2 * e.width)) * 4);
                flops = flops.max(4.0 * choices as f64 * f64::from(e.width) * f64::from(spec.width));
            }
            let fits = bytes <= budget.max_buffer && widest <= budget.max_binding;
            if fits && flops <= budget.dispatch_flops {
                break;
            }
            tokens = tokens.div_ceil(2);
        }
        tokens
    }
}
