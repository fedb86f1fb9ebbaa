//! The nodes of a graph and the values between them. A node says what is computed, in terms of values and of where its
//! weights are; [`super::record`] knows which ops that takes.

use weft_kernels::ops::Format;
use weft_kernels::ops::experts::Left;

use crate::sites::{NormSite, Site};
use crate::spec::Pooling;

/// Activations that one node writes and others read: an index into the graph's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Value(pub(crate) usize);

/// What a value is: `[rows, cols]` floats, or `bytes` of something else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    /// Bytes that it takes.
    pub(crate) bytes: u64,
    /// How floats lie in it. Memory is taken for f32 either way.
    pub(crate) format: Format,
    /// Whether it lies in memory of its own, from and to which activations can be copied.
    pub(crate) apart: bool,
}

/// 8-bit integers of activations: the integers, and their scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ints {
    pub(crate) q: Value,
    pub(crate) meta: Value,
}

/// Where a batch's tokens go: the experts of each, and their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Routes {
    pub(crate) layer: u32,
    /// `[tokens, used]` u32.
    pub(crate) ids: Value,
    /// `[tokens, used]` f32.
    pub(crate) weights: Value,
    /// Where tokens are many, the order of their choices by expert: `[choices]` u32 of tokens, and of positions, and
    /// `[tiles, 4]` u32.
    pub(crate) order: Option<[Value; 3]>,
}

impl Routes {
    pub(super) fn values(&self) -> Vec<Value> {
        [self.ids, self.weights].into_iter().chain(self.order.into_iter().flatten()).collect()
    }
}

/// One step of a program. `x` is what a node reads, `out` what it writes, `into` what it adds to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Node {
    /// Rows of the token table: `out [tokens, width]`.
    Embed { out: Value },
    /// `out = norm(x)`, rows of `[width]`.
    Norm { x: Value, norm: NormSite, out: Value },
    /// `out = x W`, or with `add` the sum with what out holds.
    Product {
        x: Value,
        site: Site,
        out: Value,
        add: bool,
        /// Integers of x, where the device multiplies those.
        ints: Option<Ints>,
        /// Scratch for sums that workgroups share.
        scratch: Option<Value>,
        /// The norm of out behind the sum, and where it goes: put here by `fuse`.
        norm: Option<(NormSite, Value)>,
    },
    /// `into += norm(x)`.
    AddNorm { x: Value, norm: NormSite, into: Value },
    /// Queries, keys and values normed by head and turned: queries to `q`, the others to the cache.
    Rope { layer: u32, qkv: Value, q: Value },
    /// Attention over the cache, with scratch for its splits: values, log-sum-exp.
    Attend { layer: u32, q: Value, out: Value, scratch: [Value; 2] },
    /// Both for one token of each sequence, in one dispatch; also as integers.
    AttendOne { layer: u32, qkv: Value, out: Value, ints: Option<Ints>, scratch: [Value; 2] },
    /// x, rows of f32, in tiles: `out` in its format.
    Tile { x: Value, out: Value },
    /// Queries, keys and values of whole sequences apart, normed by head and turned.
    Heads { layer: u32, qkv: Value, split: [Value; 3] },
    /// Attention within whole sequences, with the log-sum-exp of each row.
    AttendPacked { layer: u32, split: [Value; 3], out: Value, lse: Value },
    /// `out = act(x)`, the activation of a layer.
    Activate { layer: u32, x: Value, out: Value },
    /// A vector for each sequence.
    Pool { x: Value, out: Value, pooling: Pooling },
    /// Rows divided by their length, in place.
    Normalize { x: Value },
    /// `out = act(gate) * up`, both side by side in x.
    Glu { layer: u32, x: Value, out: Value },
    /// Chooses experts by logits `[tokens, experts]`, and sorts their choices.
    Route { logits: Value, to: Routes },
    /// `out [choices, ..] = x W`, by the experts that `routes` has; x has a row for each token, or for each choice.
    ExpertProduct {
        x: Value,
        site: Site,
        out: Value,
        left: Left,
        routes: Routes,
        /// Integers of x, where the device multiplies those.
        ints: Option<Ints>,
    },
    /// `into = sum of weights y`, of each token's choices, or with `add` the sum with what into holds.
    Combine { y: Value, routes: Routes, into: Value, add: bool },
    /// Sums of squares of the columns of x, which a product at `site` reads; of a product by experts for each of them.
    Observe { x: Value, site: Site, experts: Option<(Left, Routes)> },
    /// The residual stream x for whoever compares layers: the `index`-th copy.
    Tap { x: Value, index: usize },
    /// The last of x's tokens: `out [1, width]`.
    LastRow { x: Value, out: Value },
    /// Those of x's tokens that a list chooses: `out [rows, width]`.
    TakeRows { x: Value, out: Value },
    /// `x = cap * tanh(x / cap)`.
    Softcap { x: Value, cap: f32 },
    /// Draws the next token from logits, with scratch.
    Sample { logits: Value, scratch: Value },
    /// Integers of x, as they are or (with a norm) multiplied by its weights and with sums of squares of x.
    Quantize { x: Value, norm: Option<NormSite>, out: Ints },
    /// A product of integers, see `weft_kernels::ops::matmul::chain`; `normed` integers are divided by their norm.
    Chain { site: Site, x: Ints, normed: bool, to: ChainTo },
}

/// Where a chained product goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ChainTo {
    /// To f32.
    Rows { out: Value },
    /// Added to the residual stream, whose product with the next norm's weights goes on as integers.
    Residual { into: Value, norm: NormSite, out: Ints },
    /// Gated, to integers.
    Glu { out: Ints },
}

impl Node {
    /// The values that it reads, writes or works in.
    pub(crate) fn values(&self) -> Vec<Value> {
        let pair = |i: &Option<Ints>| i.iter().flat_map(|i| [i.q, i.meta]).collect::<Vec<_>>();
        match self {
            Node::Embed { out } => vec![*out],
            Node::Norm { x, out, .. }
            | Node::Glu { x, out, .. }
            | Node::Activate { x, out, .. }
            | Node::Pool { x, out, .. }
            | Node::LastRow { x, out }
            | Node::TakeRows { x, out }
            | Node::Tile { x, out } => {
                vec![*x, *out]
            }
            Node::Heads { qkv, split: [q, k, v], .. } => vec![*qkv, *q, *k, *v],
            Node::AttendPacked { split: [q, k, v], out, lse, .. } => vec![*q, *k, *v, *out, *lse],
            Node::Normalize { x } => vec![*x],
            Node::Product { x, out, ints, scratch, norm, .. } => {
                let mut all = pair(ints);
                all.extend([*x, *out]);
                all.extend(scratch);
                all.extend(norm.map(|n| n.1));
                all
            }
            Node::AddNorm { x, into, .. } => vec![*x, *into],
            Node::Route { logits, to } => [vec![*logits], to.values()].concat(),
            Node::ExpertProduct { x, out, routes, ints, .. } => {
                [vec![*x, *out], routes.values(), pair(ints)].concat()
            }
            Node::Combine { y, routes, into, .. } => [vec![*y, *into], routes.values()].concat(),
            Node::Rope { qkv, q, .. } => vec![*qkv, *q],
            Node::Attend { q, out, scratch, .. } => vec![*q, *out, scratch[0], scratch[1]],
            Node::AttendOne { qkv, out, ints, scratch, .. } => {
                let mut all = pair(ints);
                all.extend([*qkv, *out, scratch[0], scratch[1]]);
                all
            }
            Node::Observe { x, experts, .. } => {
                let routes = experts.iter().flat_map(|(_, r)| r.values());
                [*x].into_iter().chain(routes).collect()
            }
            Node::Tap { x, .. } | Node::Softcap { x, .. } => vec![*x],
            Node::Sample { logits, scratch } => vec![*logits, *scratch],
            Node::Quantize { x, out, .. } => vec![*x, out.q, out.meta],
            Node::Chain { x, to, .. } => {
                let mut all = vec![x.q, x.meta];
                match to {
                    ChainTo::Rows { out } => all.push(*out),
                    ChainTo::Residual { into, out, .. } => all.extend([*into, out.q, out.meta]),
                    ChainTo::Glu { out } => all.extend([out.q, out.meta]),
                }
                all
            }
        }
    }
}
