//! Building the nodes of a program.

use weft_kernels::ops::Format;
use weft_kernels::ops::attention::{self, Sequences, decode};
use weft_kernels::ops::experts::{self, Left, Order};
use weft_kernels::ops::matmul::{Variant, left_side};
use weft_kernels::ops::quantize;
use weft_kernels::ops::sample::scratch_bytes;
use weft_kernels::ops::split_k::{few_streams_bytes, short_prompt_bytes};
use weft_kernels::select::MATVEC_TOKENS;

use super::node::{Info, Ints, Node, Routes, Value};
use super::pass::{Frame, Pass, Want, splits};
use crate::sites::{Group, NormSite, Site};
use crate::spec::{Block, Experts};

/// Tokens of the largest tile of a product.
const LARGEST_TILE: u32 = 256;

/// Nodes and values so far.
pub(super) struct Builder<'a> {
    pub(super) f: Frame<'a>,
    pub(super) pass: Pass,
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Info>,
    /// Scratch that products of few tokens share sums in.
    shared: Option<Value>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(f: &Frame<'a>, pass: Pass) -> Builder<'a> {
        let mut b = Builder { f: *f, pass, nodes: Vec::new(), values: Vec::new(), shared: None };
        let bytes = few_streams_bytes(pass.tokens, f.budget);
        b.shared = (bytes > 0).then(|| b.bytes(bytes));
        b
    }

    pub(super) fn block(&self, layer: u32) -> &'a Block {
        &self.f.spec.blocks[layer as usize]
    }

    /// A value of `rows` rows.
    pub(super) fn rows(&mut self, rows: u32, cols: u32) -> Value {
        let bytes = u64::from(rows) * u64::from(cols) * 4;
        self.values.push(Info { rows, cols, bytes, format: Format::F32, apart: false });
        Value(self.values.len() - 1)
    }

    /// A value of a row for each token.
    pub(super) fn tokens(&mut self, cols: u32) -> Value {
        self.rows(self.pass.tokens, cols)
    }

    /// A value that is no floats.
    pub(super) fn bytes(&mut self, bytes: u64) -> Value {
        self.values.push(Info { rows: 0, cols: 0, bytes, format: Format::F32, apart: false });
        Value(self.values.len() - 1)
    }

    pub(super) fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    fn info(&self, v: Value) -> Info {
        self.values[v.0]
    }

    /// `norm(x)`.
    pub(super) fn norm(&mut self, x: Value, norm: NormSite) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let out = self.rows(rows, cols);
        self.push(Node::Norm { x, norm, out });
        out
    }

    /// `x W`, all matrices of the site side by side.
    pub(super) fn product(&mut self, x: Value, site: Site) -> Value {
        let rows = self.info(x).rows;
        let out = self.rows(rows, self.f.weights.outputs(site));
        self.product_to(x, site, out, false);
        out
    }

    /// `out = x W`, or `out += x W`.
    pub(super) fn product_to(&mut self, x: Value, site: Site, out: Value, add: bool) {
        let Info { rows, cols, .. } = self.info(x);
        let picks = |v| {
            let mut shapes = self.f.weights.shapes(site);
            shapes.any(|w| Variant::pick(self.f.caps, w.ty, rows) == v)
        };
        let integers = picks(Variant::MatvecDot) || picks(Variant::TiledDot);
        let ints = integers.then(|| self.ints(quantize::bytes(u64::from(rows) * u64::from(cols))));
        let scratch = self.shared.filter(|_| site != Site::Head);
        self.push(Node::Product { x, site, out, add, ints, scratch, norm: None });
        if matches!(self.pass.want, Want::Sums { .. }) {
            self.push(Node::Observe { x, site });
        }
    }

    /// Where the tokens of n go in a layer of experts.
    pub(super) fn route(&mut self, layer: u32, n: Value, e: &Experts) -> Routes {
        let logits = self.product(n, Site::Router(layer));
        let tokens = self.pass.tokens;
        let slots = tokens * e.used;
        let list = u64::from(slots) * 4;
        let (ids, weights) = (self.bytes(list), self.bytes(list));
        let order = (tokens > MATVEC_TOKENS).then(|| {
            let bytes = Order::bytes(slots, e.count);
            [bytes.list, bytes.list, bytes.tiles].map(|b| self.bytes(b))
        });
        let to = Routes { layer, ids, weights, order };
        self.push(Node::Route { logits, to });
        to
    }

    /// The products of x, which has a row for each token or for each slot, with the matrices of its experts:
    /// a row for each slot.
    pub(super) fn expert_product(&mut self, x: Value, left: Left, site: Site, routes: Routes) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let e = self.f.spec.experts(routes.layer).expect("a layer of experts");
        let out = self.rows(self.pass.tokens * e.used, self.f.weights.outputs(site) / e.count);
        let few = routes.order.is_none();
        let integers = few
            && self.f.weights.shapes(site).any(|w| {
                experts::Variant::pick(self.f.caps, w.ty, self.pass.tokens) == experts::Variant::MatvecDot
            });
        let ints = integers.then(|| self.ints(quantize::bytes(u64::from(rows) * u64::from(cols))));
        self.push(Node::ExpertProduct { x, site, out, left, routes, ints });
        out
    }

    pub(super) fn ints(&mut self, (q, meta): (u64, u64)) -> Ints {
        Ints { q: self.bytes(q), meta: self.bytes(meta) }
    }

    /// Attention of a layer over its cache: from queries, keys and values to `[tokens, heads * head_dim]`.
    pub(super) fn attend(&mut self, layer: u32, qkv: Value) -> Value {
        let a = &self.block(layer).attention;
        let q = self.tokens(a.q_width());
        self.push(Node::Rope { layer, qkv, q });
        let out = self.tokens(a.q_width());
        let (o, lse) = self.scratch(layer);
        let scratch = [self.bytes(o), self.bytes(lse)];
        self.push(Node::Attend { layer, q, out, scratch });
        out
    }

    /// Attention of a layer within whole sequences: from queries, keys and values to `[tokens, heads * head_dim]`.
    pub(super) fn attend_packed(&mut self, layer: u32, qkv: Value) -> Value {
        let a = &self.block(layer).attention;
        let split = [a.q_width(), a.kv_width(), a.kv_width()].map(|cols| self.tokens(cols));
        self.push(Node::Heads { layer, qkv, split });
        let (out, lse) = (self.tokens(a.q_width()), self.tokens(a.heads));
        self.push(Node::AttendPacked { layer, split, out, lse });
        out
    }

    /// Bytes of an attention's scratch, for any number of positions up to the context.
    fn scratch(&self, layer: u32) -> (u64, u64) {
        let (a, cache) = (&self.block(layer).attention, self.f.kv.layer(layer));
        let Pass { tokens, sequences, .. } = self.pass;
        let splits = match sequences {
            Sequences::One => splits(tokens, Pass::held(cache, self.f.kv.context().next_power_of_two())),
            Sequences::Streams { context } => {
                let positions = Pass::held(cache, context.next_power_of_two());
                let pick = decode::SplitConfig::pick(a.heads, a.kv_heads, cache.ty, positions, tokens);
                // Of one slot, a tuned split may have more.
                pick.splits.max(splits(tokens, positions))
            }
        };
        let shape = attention::Shape { tokens, heads: a.heads, window: 0, scale: 1.0, splits, sequences };
        shape.scratch_bytes(cache)
    }

    /// The gated activation of a layer.
    pub(super) fn glu(&mut self, layer: u32, x: Value) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let out = self.rows(rows, cols / 2);
        self.push(Node::Glu { layer, x, out });
        out
    }

    /// The activation of a layer without a gate.
    pub(super) fn activate(&mut self, layer: u32, x: Value) -> Value {
        let out = self.tokens(self.info(x).cols);
        self.push(Node::Activate { layer, x, out });
        out
    }

    /// Logits of x's rows, capped where the model does.
    pub(super) fn head(&mut self, x: Value) -> Value {
        let logits = self.product(x, Site::Head);
        if let Some(cap) = self.f.spec.out.softcap {
            self.push(Node::Softcap { x: logits, cap });
        }
        logits
    }

    /// The next token of each row of logits.
    pub(super) fn sample(&mut self, logits: Value) {
        let Info { rows, cols, .. } = self.info(logits);
        let scratch = self.bytes(scratch_bytes(cols, rows));
        self.push(Node::Sample { logits, scratch });
    }

    /// The last token's row of x, in memory of its own.
    pub(super) fn last_row(&mut self, x: Value) -> Value {
        let out = self.rows(1, self.info(x).cols);
        self.values[out.0].apart = true;
        self.push(Node::LastRow { x, out });
        out
    }

    /// Writes in tiles or in f16 what every product behind it would round to that, adapters included.
    pub(super) fn formats(&mut self) {
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            node.values().into_iter().for_each(|v| readers[v.0].push(i));
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let (Node::Norm { out, .. } | Node::Glu { out, .. } | Node::Activate { out, .. }) = *node else {
                continue;
            };
            let mut behind =
                readers[out.0].iter().filter(|&&r| r != i).map(|&r| self.wants(&self.nodes[r], out));
            let Some(first) = behind.next() else { continue };
            self.values[out.0].format = match behind.all(|f| f == first) {
                true => first,
                false => Format::F32,
            };
        }
        self.tile_attended();
        self.pad_products();
    }

    /// Gives what products of tiles write room for whole tiles of tokens, since kernels that need not look for the last
    /// token are faster, and in short prompts scratch for sums that workgroups share.
    fn pad_products(&mut self) {
        let bytes = short_prompt_bytes(self.pass.tokens, self.f.budget);
        let shared = (bytes > 0).then(|| self.bytes(bytes));
        for node in &mut self.nodes {
            let Node::Product { x, out, scratch, .. } = node else { continue };
            if matches!(self.values[x.0].format, Format::Tiles { .. }) {
                *scratch = scratch.or(shared);
                let info = &mut self.values[out.0];
                let rows = info.rows.next_multiple_of(LARGEST_TILE);
                info.bytes = u64::from(rows) * u64::from(info.cols) * 4;
            }
        }
    }

    /// Attention writes rows: where the product behind it takes tiles, they are made in between.
    fn tile_attended(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        for mut node in nodes {
            let read = if let Node::Product { x, .. } = node { x } else { Value(usize::MAX) };
            let wanted = self.wants(&node, read);
            if let (Node::Product { x, site: Site::Layer(_, Group::Output), .. }, Format::Tiles { .. }) =
                (&mut node, wanted)
            {
                let Info { rows, cols, .. } = self.info(*x);
                let bytes = wanted.rows(rows) * u64::from(cols) * wanted.bytes();
                self.values.push(Info { rows, cols, bytes, format: wanted, apart: false });
                let tiles = Value(self.values.len() - 1);
                self.nodes.push(Node::Tile { x: std::mem::replace(x, tiles), out: tiles });
            }
            self.nodes.push(node);
        }
    }

    /// How a node that reads a value would have it: as it would round it itself.
    fn wants(&self, node: &Node, v: Value) -> Format {
        let (Node::Product { x, site, .. } | Node::Observe { x, site }) = *node else { return Format::F32 };
        // What a product adds to is f32.
        if x != v {
            return Format::F32;
        }
        let Site::Layer(layer, group) = site else { return Format::F32 };
        // Adapters are f32.
        if self.f.lora.is_some_and(|l| l.adapts(layer, group)) {
            return Format::F32;
        }
        let shapes: Vec<_> = self.f.weights.shapes(site).collect();
        match left_side(self.f.caps, &shapes, self.pass.tokens) {
            // Sums of squares are taken of rows.
            Format::Tiles { .. } if matches!(self.pass.want, Want::Sums { .. }) => Format::F16,
            format => format,
        }
    }
}
