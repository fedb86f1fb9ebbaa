//! Building the nodes of a program.

use weft_kernels::ops::Format;
use weft_kernels::ops::attention::{self, Sequences, decode};
use weft_kernels::ops::experts::{self, Left};
use weft_kernels::ops::matmul::{Variant, left_side};
use weft_kernels::ops::quantize;
use weft_kernels::ops::sample::scratch_bytes;
use weft_kernels::ops::split_k::{SLOTS, few_slots_bytes, short_prompt_bytes};
use weft_kernels::select::MATVEC_TOKENS;

use super::building::{Attended, Build};
use super::node::{Info, Ints, Node, Routes, Value};
use super::pass::{Frame, Pass, Want, splits};
use crate::sites::{Group, NormSite, Site};
use crate::spec::Spec;

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

impl Build for Builder<'_> {
    fn spec(&self) -> &Spec {
        self.f.spec
    }

    fn batch(&self) -> u32 {
        self.pass.tokens
    }

    fn values(&self) -> &[Info] {
        &self.values
    }

    fn value(&mut self, info: Info) -> Value {
        self.values.push(info);
        Value(self.values.len() - 1)
    }

    fn push(&mut self, node: Node) {
        self.nodes.push(node);
    }

    fn product(&mut self, x: Value, site: Site) -> Value {
        let rows = self.info(x).rows;
        let out = self.rows(rows, self.f.weights.outputs(site));
        self.product_to(x, site, out, false);
        out
    }

    fn add_product(&mut self, y: Value, site: Site, x: Value) -> Value {
        self.product_to(y, site, x, true);
        x
    }

    fn add_norm(&mut self, y: Value, norm: NormSite, x: Value) -> Value {
        self.push(Node::AddNorm { x: y, norm, into: x });
        x
    }

    fn add_combined(&mut self, y: Value, routes: Routes, x: Value) -> Value {
        self.push(Node::Combine { y, routes, into: x, add: true });
        x
    }

    fn attend(&mut self, layer: u32, qkv: Value) -> Attended {
        if self.pass.is_packed() { self.attend_packed(layer, qkv) } else { self.attend_cached(layer, qkv) }
    }

    fn few(&self) -> bool {
        self.pass.tokens <= MATVEC_TOKENS
    }

    fn expert_ints(&mut self, x: Value, site: Site) -> Option<Ints> {
        let Info { rows, cols, .. } = self.info(x);
        let integers = self.few()
            && self.f.weights.shapes(site).any(|w| {
                experts::Variant::pick(self.f.caps, w.ty, self.pass.tokens) == experts::Variant::MatvecDot
            });
        integers.then(|| self.ints(quantize::bytes(u64::from(rows) * u64::from(cols))))
    }

    fn observe_experts(&mut self, x: Value, site: Site, by: (Left, Routes)) {
        if matches!(self.pass.want, Want::Sums { .. }) {
            self.push(Node::Observe { x, site, experts: Some(by) });
        }
    }
}

/// Has a value in another format.
fn write_as(info: &mut Info, format: Format) {
    info.format = format;
    // Few rows have less room than a tile takes.
    info.bytes = info.bytes.max(format.rows(info.rows) * u64::from(info.cols) * format.bytes());
}

impl<'a> Builder<'a> {
    pub(super) fn new(f: &Frame<'a>, pass: Pass) -> Builder<'a> {
        let mut b = Builder { f: *f, pass, nodes: Vec::new(), values: Vec::new(), shared: None };
        let bytes = few_slots_bytes(pass.tokens, f.budget);
        b.shared = (bytes > 0).then(|| b.bytes(bytes));
        b
    }

    fn ints(&mut self, (q, meta): (u64, u64)) -> Ints {
        Ints { q: self.bytes(q), meta: self.bytes(meta) }
    }

    /// `out = x W`, or `out += x W`.
    fn product_to(&mut self, x: Value, site: Site, out: Value, add: bool) {
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
            self.push(Node::Observe { x, site, experts: None });
        }
    }

    /// Attention of a layer over its cache.
    fn attend_cached(&mut self, layer: u32, qkv: Value) -> Attended {
        let width = self.block(layer).attention.q_width();
        let q = self.tokens(self.block(layer).attention.heads * self.f.kv.layer(layer).q_row());
        self.push(Node::Rope { layer, qkv, q });
        let out = self.tokens(width);
        let (o, lse) = self.scratch(layer);
        let scratch = [self.bytes(o), self.bytes(lse)];
        self.push(Node::Attend { layer, q, out, scratch });
        Attended { out, lse: scratch[1] }
    }

    /// Bytes of an attention's scratch, for any number of positions up to the context.
    fn scratch(&self, layer: u32) -> (u64, u64) {
        let (a, cache) = (&self.block(layer).attention, self.f.kv.layer(layer));
        let Pass { tokens, sequences, .. } = self.pass;
        let splits = match sequences {
            Sequences::One => {
                splits(tokens, self.f.kv.held(layer, self.f.kv.context().next_power_of_two()), cache)
            }
            Sequences::Mixed => 1,
            Sequences::Slots { context } => {
                let positions = self.f.kv.held(layer, context.next_power_of_two());
                let slots = self.pass.slots();
                let pick = decode::SplitConfig::pick(a.heads, a.kv_heads, cache.ty, positions, slots);
                // A tuned split of one slot may have more.
                pick.splits.max(splits(slots, positions, cache))
            }
        };
        let shape = attention::Shape { tokens, heads: a.heads, window: 0, scale: 1.0, splits, sequences };
        shape.scratch_bytes(cache)
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
            let format = if behind.all(|f| f == first) { first } else { Format::F32 };
            write_as(&mut self.values[out.0], format);
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
            // What takes a few rows looks for the last one.
            if matches!(self.values[x.0].format, Format::Tiles { .. }) && self.pass.tokens > SLOTS {
                *scratch = scratch.or(shared);
                let info = &mut self.values[out.0];
                let rows = info.rows.next_multiple_of(LARGEST_TILE);
                info.bytes = u64::from(rows) * u64::from(info.cols) * 4;
            }
        }
    }

    /// Attention of prompts writes rows: where the product behind it takes tiles, they are made in between. That of
    /// slots writes tiles itself, where it is one dispatch; with so few rows, one more would cost what they save.
    fn tile_attended(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let written: Vec<(Value, u32)> = nodes
            .iter()
            .filter_map(|n| if let Node::Attend { layer, out, .. } = *n { Some((out, layer)) } else { None })
            .collect();
        for mut node in nodes {
            let read = if let Node::Product { x, .. } = node { x } else { Value(usize::MAX) };
            let mut wanted = self.wants(&node, read);
            if self.pass.tokens <= SLOTS {
                let at_once =
                    |layer| self.f.decodes(self.pass, layer) && self.f.split(self.pass, layer).splits == 1;
                let tiles = matches!(wanted, Format::Tiles { .. });
                if tiles && written.iter().any(|&(out, layer)| out == read && at_once(layer)) {
                    write_as(&mut self.values[read.0], wanted);
                }
                wanted = Format::F32;
            }
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
        let (Node::Product { x, site, .. } | Node::Observe { x, site, experts: None }) = *node else {
            return Format::F32;
        };
        // What a product adds to is f32.
        if x != v {
            return Format::F32;
        }
        match site {
            // Adapters are f32.
            Site::Layer(layer, group) if self.f.lora.is_some_and(|l| l.adapts(layer, group)) => {
                return Format::F32;
            }
            Site::Layer(..) => {}
            // Logits of many rows have no room for whole tiles of them.
            Site::Head if self.info(v).rows == self.pass.tokens && self.pass.tokens <= SLOTS => {}
            Site::Head | Site::Router(_) => return Format::F32,
        }
        let shapes: Vec<_> = self.f.weights.shapes(site).collect();
        match left_side(self.f.caps, &shapes, self.pass.tokens) {
            // Sums of squares are taken of rows.
            Format::Tiles { .. } if matches!(self.pass.want, Want::Sums { .. }) => Format::F16,
            format => format,
        }
    }
}
