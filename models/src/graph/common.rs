//! From nodes to dispatches: those that answering and learning have alike.

use weft_kernels::ops::activation::Activation;
use weft_kernels::ops::attention;
use weft_kernels::ops::attention::train as packed_attention;
use weft_kernels::ops::embed::Embed;
use weft_kernels::ops::experts::{self, Experts, Order};
use weft_kernels::ops::glu::Glu;
use weft_kernels::ops::layernorm::LayerNorm;
use weft_kernels::ops::matmul::Input;
use weft_kernels::ops::qk_norm_rope::train as packed_heads;
use weft_kernels::ops::quantize::{Quantized, quantize};
use weft_kernels::ops::rmsnorm;
use weft_kernels::ops::rope::Rotation;
use weft_kernels::ops::router::{self, Routing};
use weft_runtime::{Caps, Recorder, Slice};

use super::node::{Info, Ints, Node, Routes, Value};
use crate::sites::{NormSite, Site};
use crate::spec::{self, Act, Ffn, Mask, Norm, Spec};
use crate::weights::Weights;

pub(super) type Recorded = std::result::Result<(), weft_kernels::Error>;

/// What nodes are recorded from, whatever for.
pub(crate) struct Common<'a> {
    pub(crate) caps: &'a Caps,
    pub(crate) spec: &'a Spec,
    pub(crate) w: &'a Weights,
    /// Tokens of the batch.
    pub(crate) tokens: u32,
    /// `[tokens]` u32.
    pub(crate) ids: &'a Slice,
    /// Whole sequences have `[tokens]` of two u32 here: the first token of each token's sequence, and one past its last.
    pub(crate) spans: Option<&'a Slice>,
    /// `[tokens]` u32 each: rows of the tables that are added to the embedding.
    pub(crate) rows: &'a [Slice],
    /// Each rotary embedding has its angles here.
    pub(crate) tables: &'a [Slice],
    pub(crate) rotations: Vec<Rotation>,
    pub(crate) values: &'a [Info],
    /// Where each value lies.
    pub(crate) slices: Vec<Option<Slice>>,
}

impl Common<'_> {
    pub(crate) fn at(&self, v: Value) -> Slice {
        self.slices[v.0].clone().expect("a value that some node touches")
    }

    pub(crate) fn info(&self, v: Value) -> Info {
        self.values[v.0]
    }

    pub(super) fn ints(&self, i: Ints) -> Quantized {
        Quantized { q: self.at(i.q), meta: self.at(i.meta) }
    }

    /// Records one of these nodes.
    pub(crate) fn node(&self, rec: &mut Recorder, node: &Node) -> Recorded {
        match *node {
            Node::Embed { out } => self.embed(rec, out),
            Node::Norm { x, norm, out } => self.norm(rec, x, norm, out),
            Node::Heads { layer, qkv, split } => self.heads(rec, layer, qkv, split),
            Node::AttendPacked { layer, split, out, lse } => {
                self.attend_packed(rec, layer, split, (out, lse))
            }
            Node::Glu { layer, x, out } => self.glu(rec, layer, x, out),
            Node::Route { logits, to } => self.route(rec, logits, to),
            Node::ExpertProduct { .. } => self.expert_product(rec, node),
            Node::Combine { y, routes, into, add } => {
                let weights = self.at(routes.weights);
                self.combine(rec, (y, Some(&weights)), routes, (into, add))
            }
            _ => unreachable!("{node:?} is recorded by who answers"),
        }
    }

    /// Rows of the token table, and of those of positions and types that the model has.
    fn embed(&self, rec: &mut Recorder, out: Value) -> Recorded {
        let (y, tokens) = (self.at(out), self.tokens);
        let ids = Embed::new(&self.w.embedding.weight, self.ids, &y, tokens);
        Embed { scale: self.spec.embed.scale, ..ids }.record(rec)?;
        for (table, rows) in self.w.tables.iter().zip(self.rows) {
            if let Some(table) = table {
                Embed { add: true, ..Embed::new(&table.weight, rows, &y, tokens) }.record(rec)?;
            }
        }
        Ok(())
    }

    fn norm(&self, rec: &mut Recorder, x: Value, norm: NormSite, out: Value) -> Recorded {
        let Info { rows, cols, format, .. } = self.info(out);
        let (x, w, y) = (self.at(x), self.w.norm(norm), self.at(out));
        match self.spec.norm(norm) {
            Some(Norm::Layer { eps }) => {
                let (residual, wb) = (None, w);
                LayerNorm { x: &x, residual, wb, y: &y, out: format, rows, cols, eps }.record(rec)
            }
            _ => rmsnorm::rmsnorm_to(rec, &x, w, (&y, format), rows, cols, self.eps(norm)),
        }
    }

    pub(crate) fn eps(&self, norm: NormSite) -> f32 {
        self.spec.norm(norm).map_or(0.0, |n| n.eps())
    }

    /// A layer's rotary embedding, and its angles.
    pub(crate) fn rotation(&self, layer: u32) -> (&Rotation, &Slice) {
        let at = self.spec.rotation_of(layer);
        (&self.rotations[at], &self.tables[at])
    }

    pub(crate) fn spans(&self) -> &Slice {
        self.spans.expect("given for whole sequences")
    }

    /// Heads of a layer within whole sequences.
    pub(crate) fn heads_shape(&self, layer: u32) -> packed_heads::Shape<'_> {
        let block = &self.spec.blocks[layer as usize];
        let a = &block.attention;
        packed_heads::Shape {
            tokens: self.tokens,
            heads: a.heads,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            rotation: self.rotation(layer).0,
            eps: block.norm.eps(),
        }
    }

    fn heads(&self, rec: &mut Recorder, layer: u32, qkv: Value, split: [Value; 3]) -> Recorded {
        let (table, shape) = (self.rotation(layer).1, self.heads_shape(layer));
        let norms = self.w.layers[layer as usize].qk_norm.as_ref();
        let (qkv, split) = (self.at(qkv), split.map(|v| self.at(v)));
        packed_heads::forward(rec, self.spans(), table, norms, &qkv, split.each_ref(), &shape)
    }

    fn attend_packed(
        &self,
        rec: &mut Recorder,
        layer: u32,
        split: [Value; 3],
        (out, lse): (Value, Value),
    ) -> Recorded {
        let shape = attention_shape(self.spec, layer, self.tokens);
        let split = split.map(|v| self.at(v));
        let (out, lse) = (self.at(out), self.at(lse));
        packed_attention::attention(rec, self.spans(), split.each_ref(), &out, &lse, &shape)
    }

    /// The activation of a layer's feed-forward network.
    pub(crate) fn activation(&self, layer: u32) -> Activation {
        let act = match self.spec.blocks[layer as usize].ffn {
            Ffn::Gated { act, .. } | Ffn::Plain { act, .. } => act,
            Ffn::Experts(e) => e.act,
        };
        match act {
            Act::Silu => Activation::Silu,
            Act::GeluTanh => Activation::GeluTanh,
            Act::GeluErf => Activation::GeluErf,
        }
    }

    fn glu(&self, rec: &mut Recorder, layer: u32, x: Value, out: Value) -> Recorded {
        let Info { rows, cols, format, .. } = self.info(out);
        let (act, x, y) = (self.activation(layer), self.at(x), self.at(out));
        Glu { x: &x, y: &y, out: format, act, tokens: rows, width: cols }.record(rec)
    }

    fn experts(&self, layer: u32) -> &spec::Experts {
        self.spec.experts(layer).expect("a layer of experts")
    }

    /// How a layer's experts are chosen.
    pub(crate) fn routing(&self, layer: u32) -> Routing {
        let e = self.experts(layer);
        Routing { experts: e.count, used: e.used, renormalise: e.normalised, scale: e.scale }
    }

    /// The experts' matrices of a site, one below the other.
    pub(crate) fn matrices(&self, layer: u32, site: Site) -> Experts {
        let weight = self.w.parts(site)[0].weight.clone();
        Experts { rows: weight.shape.rows / self.experts(layer).count, weight }
    }

    pub(crate) fn order(&self, routes: Routes) -> Option<Order> {
        let [tokens, position, tiles] = routes.order?.map(|v| self.at(v));
        let e = self.experts(routes.layer);
        let side = Order::side(self.caps, self.tokens * e.used, e.count);
        Some(Order { tokens, position, tiles, side })
    }

    /// Where tokens go; `ids` and `order` are what routes have of them.
    pub(crate) fn route_of<'b>(
        &self,
        routes: Routes,
        ids: &'b Slice,
        order: Option<&'b Order>,
    ) -> experts::Route<'b> {
        experts::Route { ids, tokens: self.tokens, used: self.experts(routes.layer).used, order }
    }

    fn route(&self, rec: &mut Recorder, logits: Value, to: Routes) -> Recorded {
        let (e, routing) = (self.experts(to.layer), self.routing(to.layer));
        let (logits, ids, weights) = (self.at(logits), self.at(to.ids), self.at(to.weights));
        let tokens = self.tokens;
        router::router(rec, &logits, router::Routes { ids: &ids, weights: &weights }, tokens, &routing)?;
        match self.order(to) {
            Some(order) => order.record(rec, &ids, [tokens, e.used, e.count]),
            None => Ok(()),
        }
    }

    fn expert_product(&self, rec: &mut Recorder, node: &Node) -> Recorded {
        let Node::ExpertProduct { x, site, out, left, routes, ints } = *node else { return Ok(()) };
        let Info { rows, cols, format, .. } = self.info(x);
        let (x, y, ids) = (self.at(x), self.at(out), self.at(routes.ids));
        let ints = ints.map(|i| self.ints(i));
        if let Some(ints) = &ints {
            quantize(rec, &x, ints, rows * cols)?;
        }
        let (order, experts) = (self.order(routes), self.matrices(routes.layer, site));
        let route = self.route_of(routes, &ids, order.as_ref());
        let x = Input { x: &x, ints: ints.as_ref(), format };
        experts::Product { experts: &experts, x, left, route, y: &y }.record(rec)
    }

    /// The sum of each token's rows of y, weighted or not.
    pub(crate) fn combine(
        &self,
        rec: &mut Recorder,
        (y, weights): (Value, Option<&Slice>),
        routes: Routes,
        (into, add): (Value, bool),
    ) -> Recorded {
        let (ids, order) = (self.at(routes.ids), self.order(routes));
        let route = self.route_of(routes, &ids, order.as_ref());
        let width = self.info(into).cols;
        experts::combine(rec, &self.at(y), weights, &route, (&self.at(into), add), width)
    }
}

/// Attention of a layer within whole sequences of `tokens` tokens in all.
pub(crate) fn attention_shape(spec: &Spec, layer: u32, tokens: u32) -> packed_attention::Shape {
    let a = &spec.blocks[layer as usize].attention;
    let mask = match a.mask {
        Mask::Causal => attention::Mask::Causal { window: 0 },
        Mask::Window(window) => attention::Mask::Causal { window },
        Mask::Full => attention::Mask::Full { window: 0 },
        Mask::SymmetricWindow(window) => attention::Mask::Full { window },
    };
    let (heads, kv_heads, head_dim, scale) = (a.heads, a.kv_heads, a.head_dim, a.scale);
    packed_attention::Shape { tokens, heads, kv_heads, head_dim, scale, mask }
}
