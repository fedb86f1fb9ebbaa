//! Building the steps of training programs.

use std::collections::BTreeMap;

use weft_kernels::ops::Format;

use super::building::{Attended, Build};
use super::common::attention_shape;
use super::node::{Info, Node, Routes, Value};
use super::step::{Room, Step};
use crate::sites::{Group, NormSite, Site};
use crate::spec::Spec;

/// What the forward pass of a layer keeps for its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// What it reads: the rest is computed once more.
    Input,
    /// What its gradients read, with gate and up, which are half of that, in f16.
    Halves,
    /// What its gradients read, in f32.
    Whole,
}

/// What is trained, and how.
#[derive(Debug, Clone)]
pub(crate) struct Lesson {
    /// Tokens of a batch.
    pub(crate) tokens: u32,
    /// Rows whose loss is computed at a time.
    pub(crate) rows: u32,
    /// Each layer and group has the ranks of all its adapters added up here.
    pub(crate) ranks: Vec<[u32; 4]>,
    /// The lowest product that is adapted: nothing before it needs a gradient.
    pub(crate) first: (u32, Group),
    /// What each layer keeps for its backward pass.
    pub(crate) kept: Vec<Kept>,
    /// Whether values of the adapters' inputs are dropped.
    pub(crate) dropout: bool,
    /// Bytes of the sums that workgroups share.
    pub(crate) parts: u64,
    /// Whether products have room for their left sides in tiles.
    pub(crate) tiles: bool,
}

/// The gradient of what a product makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Laid {
    /// In rows.
    pub(super) dy: Value,
    /// Where it lies in tiles, if that value has this format.
    pub(super) tiles: Option<Value>,
}

/// Steps and values so far.
pub(crate) struct Learner<'a> {
    spec: &'a Spec,
    pub(super) lesson: &'a Lesson,
    pub(super) steps: Vec<Step>,
    pub(super) values: Vec<Info>,
    /// What the adapters' A made last of the input of each product.
    t: BTreeMap<(u32, Group), Value>,
    /// Scratch of all products of a program.
    parts: Value,
}

impl Build for Learner<'_> {
    fn spec(&self) -> &Spec {
        self.spec
    }

    fn batch(&self) -> u32 {
        self.lesson.tokens
    }

    fn values(&self) -> &[Info] {
        &self.values
    }

    fn value(&mut self, info: Info) -> Value {
        self.values.push(info);
        Value(self.values.len() - 1)
    }

    fn push(&mut self, node: Node) {
        self.steps.push(Step::Plain(node));
    }

    fn product(&mut self, x: Value, site: Site) -> Value {
        let rows = self.info(x).rows;
        let out = self.rows(rows, self.outputs(site));
        let t = self.t(site);
        let room = self.room(site, x);
        // Routers and heads have few columns or few rows: their sums are not shared.
        let parts = room.parts.filter(|_| matches!(site, Site::Layer(..)));
        let tiles = self.tiles(site, x);
        let room = Room { parts, tiles, ..room };
        self.learn(Step::Product { x, site, out, t, room });
        out
    }

    fn add_product(&mut self, y: Value, site: Site, x: Value) -> Value {
        let out = self.product(y, site);
        self.add(x, out)
    }

    fn add_norm(&mut self, y: Value, norm: NormSite, x: Value) -> Value {
        let out = self.norm(y, norm);
        self.add(x, out)
    }

    fn add_combined(&mut self, y: Value, routes: Routes, x: Value) -> Value {
        let into = self.tokens(self.spec.width);
        self.push(Node::Combine { y, routes, into, add: false });
        self.add(x, into)
    }

    fn attend(&mut self, layer: u32, qkv: Value) -> Attended {
        self.attend_packed(layer, qkv)
    }

    fn few(&self) -> bool {
        false
    }

    fn keep(&mut self, layer: u32, gate_up: Value) -> Option<Value> {
        match self.kept(layer) {
            _ if layer < self.lesson.first.0 => None,
            Kept::Input => None,
            Kept::Halves => Some(self.cast(gate_up, Format::F16)),
            Kept::Whole => Some(gate_up),
        }
    }
}

impl<'a> Learner<'a> {
    pub(super) fn new(spec: &'a Spec, lesson: &'a Lesson) -> Learner<'a> {
        let mut b = Learner {
            spec,
            lesson,
            steps: Vec::new(),
            values: Vec::new(),
            t: BTreeMap::new(),
            parts: Value(0),
        };
        b.program();
        b
    }

    /// What a layer keeps for its backward pass.
    pub(super) fn kept(&self, layer: u32) -> Kept {
        self.lesson.kept[layer as usize]
    }

    /// Begins another program, with scratch of its own. Returns where it begins.
    pub(super) fn program(&mut self) -> usize {
        self.parts = self.bytes(self.lesson.parts);
        self.steps.len()
    }

    pub(super) fn learn(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Columns of what a product makes.
    fn outputs(&self, site: Site) -> u32 {
        match site {
            Site::Layer(layer, Group::Qkv) => self.block(layer).attention.qkv_width(),
            Site::Layer(_, Group::Output | Group::Down) => self.spec.width,
            Site::Layer(_, Group::GateUp) => 2 * self.spec.feed_forward(),
            Site::Router(layer) => self.spec.experts(layer).map_or(0, |e| e.count),
            Site::Head => self.spec.vocabulary,
        }
    }

    /// Columns of what a product reads.
    fn inputs(&self, site: Site) -> u32 {
        match site {
            Site::Layer(layer, Group::Output) => self.block(layer).attention.q_width(),
            Site::Layer(_, Group::Down) => self.spec.feed_forward(),
            _ => self.spec.width,
        }
    }

    /// Ranks of all adapters of a product.
    fn ranks(&self, site: Site) -> u32 {
        match site {
            Site::Layer(layer, group) => self.lesson.ranks[layer as usize][group as usize],
            Site::Router(_) | Site::Head => 0,
        }
    }

    /// Whether a product has adapters.
    pub(super) fn is_adapted(&self, site: Site) -> bool {
        self.ranks(site) > 0
    }

    /// Whether anything before a product is trained.
    pub(super) fn is_needed(&self, site: Site) -> bool {
        match site {
            Site::Layer(layer, group) => self.lesson.first < (layer, group),
            Site::Router(_) | Site::Head => true,
        }
    }

    /// A new value of the same size as v, in f32.
    pub(super) fn like(&mut self, v: Value) -> Value {
        let info = self.info(v);
        self.value(Info { format: Format::F32, ..info })
    }

    /// Scratch for the gradient of a layer's attention.
    pub(super) fn attention_scratch(&mut self, layer: u32) -> Value {
        let shape = attention_shape(self.spec, layer, self.lesson.tokens);
        self.bytes(shape.scratch_bytes())
    }

    /// A new t of a product that has adapters: what its A make of its input.
    fn t(&mut self, site: Site) -> Option<Value> {
        let ranks = self.ranks(site);
        let Site::Layer(layer, group) = site else { return None };
        let t = (ranks > 0).then(|| self.tokens(ranks))?;
        self.t.insert((layer, group), t);
        Some(t)
    }

    /// Scratch of a product that has adapters, which read x or something as large.
    fn room(&mut self, site: Site, x: Value) -> Room {
        let Info { rows, cols, .. } = self.info(x);
        let dropped = (self.lesson.dropout && self.is_adapted(site)).then(|| self.rows(rows, cols));
        Room { parts: Some(self.parts), dropped, tiles: None }
    }

    /// Scratch for x, which a product reads, or for the gradient of what it makes, in tiles: half of the memory that it
    /// has as f32.
    pub(super) fn tiles(&mut self, site: Site, x: Value) -> Option<Value> {
        let info = self.info(x);
        let wanted = self.lesson.tiles && !matches!(site, Site::Router(_));
        // Tiles of either size take whole rows of the larger one. Batches that are too small for them have the value
        // all the same: theirs lie where those of the largest do.
        let bytes = u64::from(info.rows.next_multiple_of(16)) * u64::from(info.cols) * 2;
        wanted.then(|| self.value(Info { bytes, format: Format::F32, ..info }))
    }

    /// `out += x`; returns out.
    fn add(&mut self, x: Value, into: Value) -> Value {
        self.learn(Step::Add { x, into });
        into
    }

    /// x in another format.
    pub(super) fn cast(&mut self, x: Value, format: Format) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let bytes = u64::from(rows) * u64::from(cols) * format.bytes();
        let out = self.value(Info { rows, cols, bytes, format, apart: false });
        self.learn(Step::Cast { x, out });
        out
    }

    /// What the A of a product make of its input, once more.
    pub(super) fn down(&mut self, site: Site, x: Value) {
        if let Some(t) = self.t(site) {
            let room = self.room(site, x);
            self.learn(Step::Down { x, site, t, room });
        }
    }

    /// The gradient of what a product makes, laid in tiles where these are read more than once.
    pub(super) fn laid(&mut self, site: Site, dy: Value) -> Laid {
        let tiles = if self.is_needed(site) { self.tiles(site, dy) } else { None };
        if let Some(out) = tiles {
            self.learn(Step::Lay { x: dy, out });
        }
        Laid { dy, tiles }
    }

    /// From the gradient of what a product makes to that of t, if it has adapters, and of what it reads, if anything is
    /// trained before it.
    pub(super) fn input_gradient(&mut self, site: Site, from: Laid) -> (Option<Value>, Option<Value>) {
        let Laid { dy, tiles } = from;
        let ranks = self.ranks(site);
        let needed = self.is_needed(site);
        let dt = (ranks > 0).then(|| self.tokens(ranks));
        let rows = self.info(dy).rows;
        let dx = needed.then(|| self.rows(rows, self.inputs(site)));
        if dt.is_some() || dx.is_some() {
            let room = match dx {
                Some(dx) => self.room(site, dx),
                None => Room { parts: Some(self.parts), dropped: None, tiles: None },
            };
            let room = Room { tiles, ..room };
            self.learn(Step::InputGradient { site, dy, dt, dx, add: false, room });
        }
        (dt, dx)
    }

    /// Adds to the gradients of the adapters of a product, which read x.
    pub(super) fn adapter_gradient(&mut self, site: Site, from: Laid, x: Value, dt: Option<Value>) {
        let Site::Layer(layer, group) = site else { return };
        if let (Some(dt), Some(&t)) = (dt, self.t.get(&(layer, group))) {
            let Laid { dy, tiles } = from;
            let room = Room { tiles, ..self.room(site, x) };
            self.learn(Step::AdapterGradient { site, dy, x, t, dt, room });
        }
    }

    /// Both, for a product that reads x, which nobody needs who does not adapt it.
    pub(super) fn product_gradient(&mut self, site: Site, from: Laid, x: Option<Value>) -> Option<Value> {
        let (dt, dx) = self.input_gradient(site, from);
        if let Some(x) = x {
            self.adapter_gradient(site, from, x, dt);
        }
        dx
    }

    /// From dy, the gradient of what a norm gives, to that of x, which it reads.
    pub(super) fn norm_gradient(&mut self, x: Value, norm: NormSite, dy: Value) -> Value {
        let Info { rows, cols, .. } = self.info(x);
        let dx = self.rows(rows, cols);
        self.learn(Step::NormGradient { x, norm, dy, dx, add: false });
        dx
    }

    /// The same, added to dx.
    pub(super) fn add_norm_gradient(&mut self, x: Value, norm: NormSite, dy: Value, dx: Value) {
        self.learn(Step::NormGradient { x, norm, dy, dx, add: true });
    }

    /// From dy, the gradient of what the router of a layer gives, to that of what it reads, added to dx.
    pub(super) fn add_router_gradient(&mut self, layer: u32, dy: Value, dx: Value) {
        let room = Room { parts: None, dropped: None, tiles: None };
        let (site, dx) = (Site::Router(layer), Some(dx));
        self.learn(Step::InputGradient { site, dy, dt: None, dx, add: true, room });
    }
}
