//! What blocks are written in terms of: whoever builds a program from them, to answer or to learn.

use weft_kernels::ops::Format;
use weft_kernels::ops::experts::{Left, Order};

use super::node::{Info, Ints, Node, Routes, Value};
use crate::sites::{Group, NormSite, Site};
use crate::spec::{Block, Experts, Spec};

/// What attention gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attended {
    /// `[tokens, heads * head_dim]` f32.
    pub(crate) out: Value,
    /// The log-sum-exp of each row's scores, or of each of its splits.
    pub(crate) lse: Value,
}

/// A builder of programs. Answering may overwrite a residual stream with its sum; learning keeps what it reads again.
pub(crate) trait Build {
    fn spec(&self) -> &Spec;

    /// Tokens of the batch.
    fn batch(&self) -> u32;

    fn values(&self) -> &[Info];

    /// A new value.
    fn value(&mut self, info: Info) -> Value;

    fn push(&mut self, node: Node);

    /// `x W`, all matrices of the site side by side.
    fn product(&mut self, x: Value, site: Site) -> Value;

    /// `x + y W`. What was x may hold the sum.
    fn add_product(&mut self, y: Value, site: Site, x: Value) -> Value;

    /// `x + norm(y)`, likewise.
    fn add_norm(&mut self, y: Value, norm: NormSite, x: Value) -> Value;

    /// `x + combine(y)`, likewise.
    fn add_combined(&mut self, y: Value, routes: Routes, x: Value) -> Value;

    /// Attention of a layer, from queries, keys and values side by side.
    fn attend(&mut self, layer: u32, qkv: Value) -> Attended;

    /// Whether tokens are so few that each looks its experts up.
    fn few(&self) -> bool;

    /// Room for the integers of x, where products with experts multiply those.
    fn expert_ints(&mut self, _x: Value, _site: Site) -> Option<Ints> {
        None
    }

    /// Sums the squares of what experts read, in a program that observes.
    fn observe_experts(&mut self, _x: Value, _site: Site, _by: (Left, Routes)) {}

    /// What is kept of a layer's gate and up until gradients are computed, if anything is.
    fn keep(&mut self, _layer: u32, _gate_up: Value) -> Option<Value> {
        None
    }

    fn info(&self, v: Value) -> Info {
        self.values()[v.0]
    }

    fn block(&self, layer: u32) -> &Block {
        &self.spec().blocks[layer as usize]
    }

    /// A value of `rows` rows.
    fn rows(&mut self, rows: u32, cols: u32) -> Value {
        let bytes = u64::from(rows) * u64::from(cols) * 4;
        self.value(Info { rows, cols, bytes, format: Format::F32, apart: false })
    }

    /// A value of a row for each token.
    fn tokens(&mut self, cols: u32) -> Value {
        self.rows(self.batch(), cols)
    }

    /// A value that is no floats.
    fn bytes(&mut self, bytes: u64) -> Value {
        self.value(Info { rows: 0, cols: 0, bytes, format: Format::F32, apart: false })
    }

    /// `norm(x)`.
    fn norm(&mut self, x: Value, norm: NormSite) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let out = self.rows(rows, cols);
        self.push(Node::Norm { x, norm, out });
        out
    }

    /// The gated activation of a layer.
    fn glu(&mut self, layer: u32, x: Value) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let out = self.rows(rows, cols / 2);
        self.push(Node::Glu { layer, x, out });
        out
    }

    /// The activation of a layer without a gate.
    fn activate(&mut self, layer: u32, x: Value) -> Value {
        let out = self.tokens(self.info(x).cols);
        self.push(Node::Activate { layer, x, out });
        out
    }

    /// Queries, keys and values of whole sequences apart, normed by head and turned.
    fn heads(&mut self, layer: u32, qkv: Value) -> [Value; 3] {
        let a = &self.block(layer).attention;
        let split = [a.q_width(), a.kv_width(), a.kv_width()].map(|cols| self.tokens(cols));
        self.push(Node::Heads { layer, qkv, split });
        split
    }

    /// Attention of a layer within whole sequences.
    fn attend_packed(&mut self, layer: u32, qkv: Value) -> Attended {
        let split = self.heads(layer, qkv);
        let a = &self.block(layer).attention;
        let (width, heads) = (a.q_width(), a.heads);
        let (out, lse) = (self.tokens(width), self.tokens(heads));
        self.push(Node::AttendPacked { layer, split, out, lse });
        Attended { out, lse }
    }

    /// Where the tokens of n go in a layer of experts.
    fn route(&mut self, layer: u32, n: Value, e: &Experts) -> (Value, Routes) {
        let logits = self.product(n, Site::Router(layer));
        let choices = self.batch() * e.used;
        let list = u64::from(choices) * 4;
        let (ids, weights) = (self.bytes(list), self.bytes(list));
        let order = (!self.few()).then(|| {
            let bytes = Order::bytes(choices, e.count);
            [bytes.list, bytes.list, bytes.tiles].map(|b| self.bytes(b))
        });
        let to = Routes { layer, ids, weights, order };
        self.push(Node::Route { logits, to });
        (logits, to)
    }

    /// The products of x, which has a row for each token or for each choice, with the matrices of its experts:
    /// a row for each choice.
    fn expert_product(&mut self, x: Value, left: Left, group: Group, routes: Routes) -> Value {
        let e = *self.spec().experts(routes.layer).expect("a layer of experts");
        let cols = if group == Group::GateUp { 2 * e.width } else { self.spec().width };
        let site = Site::Layer(routes.layer, group);
        let out = self.rows(self.batch() * e.used, cols);
        let ints = self.expert_ints(x, site);
        self.push(Node::ExpertProduct { x, site, out, left, routes, ints });
        self.observe_experts(x, site, (left, routes));
        out
    }
}
