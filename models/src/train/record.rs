//! From the steps of training programs to dispatches.

use weft_kernels::ops::add::add;
use weft_kernels::ops::attention::backward::Backward as AttentionBackward;
use weft_kernels::ops::cast::cast;
use weft_kernels::ops::cross_entropy::CrossEntropy;
use weft_kernels::ops::experts::{InputGradient, Left, Weigh, weigh};
use weft_kernels::ops::glu::{GluBackward, GluGradient};
use weft_kernels::ops::matmul::Columns;
use weft_kernels::ops::tile::Tile;
use weft_kernels::ops::{Format, adamw, gather, qk_norm_rope, rmsnorm, router};
use weft_runtime::{Recorder, Slice};

use super::AdapterShape;
use super::adapter::Flat;
use crate::Result;
use crate::graph::{Common, Info, Routes, Step, Value, attention_shape};
use crate::sites::{NormSite, Site};

/// Brings gradients into the range of f16 where cooperative matrices round them: those of a token's own
/// loss are below 1, and most are below 1e-2.
pub(super) const RANGE: f32 = 256.0;

/// The memory that programs work in, besides values.
pub(crate) struct Memory {
    /// Where values lie.
    pub(crate) values: Vec<Option<Slice>>,
    /// Flat, as [`Flat`] says.
    pub(crate) parameters: Slice,
    pub(crate) gradient: Slice,
    /// Token ids of the batch.
    pub(crate) ids: Slice,
    /// `[tokens, 2]`: first token of each token's sequence, and one past its last.
    pub(crate) spans: Slice,
    /// The angles of each rotary embedding.
    pub(crate) tables: Vec<Slice>,
    /// Rows of the batch whose loss is computed, and what should follow them.
    pub(crate) rows: Slice,
    pub(crate) labels: Slice,
    /// What each token's loss is multiplied by.
    pub(crate) loss_scale: Slice,
    /// The seed of the dropout.
    pub(crate) seed: Slice,
}

/// Everything that a step is recorded from.
pub(crate) struct Recording<'a> {
    pub(crate) common: Common<'a>,
    pub(crate) adapter: &'a AdapterShape,
    pub(crate) flat: &'a Flat,
    pub(crate) m: &'a Memory,
    /// What B A is multiplied by.
    pub(crate) scale: f32,
    /// The share of the adapters' inputs that is dropped; 0 where a batch is only evaluated.
    pub(crate) dropout: f32,
}

impl Recording<'_> {
    pub(super) fn at(&self, v: Value) -> Slice {
        self.common.at(v)
    }

    pub(super) fn info(&self, v: Value) -> Info {
        self.common.info(v)
    }

    /// Where a value lies in tiles, and their side, if it has that format.
    pub(super) fn tiled(&self, v: Value) -> Option<(Slice, u32)> {
        match self.info(v).format {
            Format::Tiles { side } => Some((self.at(v), side)),
            _ => None,
        }
    }

    pub(crate) fn step(&self, rec: &mut Recorder, step: &Step) -> Result<()> {
        let m = self.m;
        match *step {
            Step::Plain(node) => self.common.node(rec, &node)?,
            Step::Product { x, site, out, t, room } => self.product(rec, (x, site), (out, t), room)?,
            Step::Down { x, site, t, room } => self.down(rec, (x, site), t, room)?,
            Step::Add { x, into } => {
                let Info { rows, cols, .. } = self.info(into);
                add(rec, &self.at(x), &self.at(into), rows * cols)?;
            }
            Step::Cast { x, out } => {
                let Info { rows, cols, format, .. } = self.info(out);
                cast(rec, &self.at(x), (&self.at(out), format), u64::from(rows) * u64::from(cols))?;
            }
            Step::Clear { x } => adamw::zero(rec, &self.at(x))?,
            Step::TakeRows { x, out } => {
                gather::gather(rec, &self.at(x), &m.rows, &self.at(out), &self.rows(out))?;
            }
            Step::Loss { logits, stats } => {
                let Info { rows, cols: vocab, .. } = self.info(logits);
                let (logits, stats) = (&self.at(logits), &self.at(stats));
                let (labels, scale) = (&m.labels, &m.loss_scale);
                CrossEntropy { logits, labels, stats, scale, row0: 0, rows, vocab }.record(rec)?;
            }
            Step::PutRows { x, into } => {
                gather::scatter(rec, &self.at(x), &m.rows, &self.at(into), &self.rows(x), false)?;
            }
            Step::NormGradient { x, norm, dy, dx, add } => {
                self.norm_gradient(rec, (x, norm), dy, (dx, add))?
            }
            Step::Lay { x, out } => {
                let Info { rows, cols, .. } = self.info(out);
                if let Some((y, side)) = self.tiled(out) {
                    let (x, from, columns) = (&self.at(x), Format::F32, Columns::all(cols));
                    Tile { x, from, columns, y: &y, rows, cols, side, scale: RANGE }.record(rec)?;
                }
            }
            Step::GluGradient { layer, x, dy, tiles } => {
                let Info { rows: tokens, cols: width, .. } = self.info(dy);
                let (act, x, dy) = (self.common.activation(layer), &self.at(x), &self.at(dy));
                let tiles = tiles.and_then(|v| self.tiled(v));
                let to = match &tiles {
                    Some((dx, side)) => GluGradient::Tiles { dx, side: *side, scale: RANGE },
                    None => GluGradient::InPlace,
                };
                GluBackward { x, dy, to, act, tokens, width }.record(rec)?;
            }
            Step::AttendGradient { .. } => self.attend_gradient(rec, step)?,
            Step::HeadsGradient { layer, qkv, dsplit, dqkv } => {
                self.heads_gradient(rec, layer, (qkv, dqkv), dsplit)?;
            }
            Step::InputGradient { .. } => self.input_gradient(rec, step)?,
            Step::AdapterGradient { .. } => self.adapter_gradient(rec, step)?,
            Step::ExpertGradient { site, dy, left, routes, dx } => {
                self.expert_gradient(rec, site, (dy, left), routes, dx)?;
            }
            Step::Weigh { h, g, routes, dweights } => {
                let (ids, order) = (self.at(routes.ids), self.common.order(routes));
                let route = self.common.route_of(routes, &ids, order.as_ref());
                let (width, h, g) = (self.info(h).cols, &self.at(h), &self.at(g));
                let (weights, dw) = (&self.at(routes.weights), &self.at(dweights));
                weigh(rec, Weigh { h, g, weights, dw }, &route, width)?;
            }
            Step::Gather { y, routes, into } => self.common.combine(rec, (y, None), routes, (into, false))?,
            Step::RouteGradient { logits, routes, dweights, dlogits } => {
                let (ids, weights) = (&self.at(routes.ids), &self.at(dweights));
                let (routing, tokens) = (self.common.routing(routes.layer), self.common.tokens);
                let from = router::Routes { ids, weights };
                router::backward(rec, &self.at(logits), from, &self.at(dlogits), tokens, &routing)?;
            }
        }
        Ok(())
    }

    /// The rows of the batch that `v` has.
    fn rows(&self, v: Value) -> gather::Shape {
        let Info { rows: count, cols: width, .. } = self.info(v);
        gather::Shape { total: (self.m.ids.size() / 4) as u32, count, width, index0: 0 }
    }

    fn norm_gradient(
        &self,
        rec: &mut Recorder,
        (x, norm): (Value, NormSite),
        dy: Value,
        (dx, add): (Value, bool),
    ) -> Result<()> {
        let Info { rows, cols, .. } = self.info(x);
        let (w, eps) = (self.common.w.norm(norm), self.common.eps(norm));
        let (x, dy, dx) = (&self.at(x), &self.at(dy), &self.at(dx));
        Ok(rmsnorm::Backward { x, w, dy, dx, rows, cols, eps, add }.record(rec)?)
    }

    fn attend_gradient(&self, rec: &mut Recorder, step: &Step) -> Result<()> {
        let Step::AttendGradient { layer, split, out, lse, dout, scratch, dsplit } = *step else {
            return Ok(());
        };
        let (split, dsplit) = (split.map(|v| self.at(v)), dsplit.map(|v| self.at(v)));
        Ok(AttentionBackward {
            spans: &self.m.spans,
            qkv: split.each_ref(),
            o: &self.at(out),
            lse: &self.at(lse),
            g: &self.at(dout),
            scratch: &self.at(scratch),
            gradients: dsplit.each_ref(),
            shape: &attention_shape(self.common.spec, layer, self.common.tokens),
        }
        .record(rec)?)
    }

    fn heads_gradient(
        &self,
        rec: &mut Recorder,
        layer: u32,
        (qkv, dqkv): (Value, Value),
        dsplit: [Value; 3],
    ) -> Result<()> {
        let dsplit = dsplit.map(|v| self.at(v));
        Ok(qk_norm_rope::train::Backward {
            spans: &self.m.spans,
            table: self.common.rotation(layer).1,
            norms: self.common.w.layers[layer as usize].qk_norm.as_ref(),
            qkv: &self.at(qkv),
            gradients: dsplit.each_ref(),
            dqkv: &self.at(dqkv),
            shape: &self.common.heads_shape(layer),
        }
        .record(rec)?)
    }

    fn expert_gradient(
        &self,
        rec: &mut Recorder,
        site: Site,
        (dy, left): (Value, Left),
        routes: Routes,
        dx: Value,
    ) -> Result<()> {
        let (ids, order) = (self.at(routes.ids), self.common.order(routes));
        let route = self.common.route_of(routes, &ids, order.as_ref());
        let experts = &self.common.matrices(routes.layer, site);
        let (dy, dx) = (&self.at(dy), &self.at(dx));
        Ok(InputGradient { experts, dy, left, route, dx }.record(rec)?)
    }
}
