//! A layer of experts while adapters of the attention around it are trained: forward, and from the gradient of what it
//! gives to that of what it reads.
//!
//! With G the gradient of a token's output y = sum_j w_j h_j D_j over its experts j:
//! ```text
//! g_j = G D_j^T      dw_j = g_j . h_j      dh_j = w_j g_j       through the experts that were chosen
//! dn  = sum_j d(gate, up)_j (Gate, Up)_j^T + dlogits Wr^T       dlogits from dw through the softmax
//! ```
//! Which experts are chosen has no gradient.

use weft_kernels::ops::activation::Activation;
use weft_kernels::ops::experts::{
    Experts, InputGradient, Left, Order, Product, Route, Weigh, combine, weigh,
};
use weft_kernels::ops::glu::{Glu, GluBackward};
use weft_kernels::ops::matmul::{Columns, Epilogue, Gradient, Input, linear, linear_gradient};
use weft_kernels::ops::rmsnorm;
use weft_kernels::ops::router::{self, Routes, Routing};
use weft_runtime::{Recorder, Slice};

use super::graph::{Graph, RANGE, Tensors};
use super::plan::ExpertSpots;
use crate::graph::activation;
use crate::sites::{Group, NormSite, Site};
use crate::{Result, spec};

/// A layer of experts of a training graph.
pub(super) struct ExpertLayer<'a> {
    g: &'a Graph<'a>,
    layer: u32,
    e: &'a spec::Experts,
    spots: &'a ExpertSpots,
}

impl Graph<'_> {
    /// Layer `i`, if it has experts.
    pub(super) fn experts(&self, i: u32) -> Option<ExpertLayer<'_>> {
        let (e, spots) = (self.c.experts(i)?, self.buffers.experts.as_ref()?);
        Some(ExpertLayer { g: self, layer: i, e, spots })
    }
}

impl ExpertLayer<'_> {
    fn slots(&self) -> u32 {
        self.g.tokens * self.e.used
    }

    fn act(&self) -> Activation {
        activation(self.e.act)
    }

    fn routing(&self) -> Routing {
        let e = self.e;
        Routing { experts: e.count, used: e.used, renormalise: e.normalised, scale: e.scale }
    }

    fn matrices(&self, group: Group) -> Experts {
        let weight = self.g.w.parts(Site::Layer(self.layer, group))[0].weight.clone();
        Experts { rows: weight.shape.rows / self.e.count, weight }
    }

    fn order(&self) -> Order {
        let [tokens, position, tiles] = self.spots.order.map(|p| self.g.at(p));
        let side = Order::side(self.g.gpu.caps(), self.slots(), self.e.count);
        Order { tokens, position, tiles, side }
    }

    /// From mid to gate and up.
    pub(super) fn gate_half(&self, rec: &mut Recorder, s: &Tensors) -> Result<()> {
        let (g, e, tokens) = (self.g, self.e, self.g.tokens);
        let norm = g.w.norm(NormSite::Ffn(self.layer));
        rmsnorm::rmsnorm(rec, &s.mid, norm, &s.n2, tokens, g.c.width, g.c.eps())?;
        let [logits, ids, weights] = [self.spots.logits, self.spots.ids, self.spots.weights].map(|p| g.at(p));
        let router = &g.w.parts(Site::Router(self.layer))[0].weight;
        let to = (&logits, Columns::all(e.count));
        linear(rec, router, Input::f32(&s.n2), to, tokens, Epilogue::default())?;
        router::router(rec, &logits, Routes { ids: &ids, weights: &weights }, tokens, &self.routing())?;
        let order = self.order();
        order.record(rec, &ids, [tokens, e.used, e.count])?;
        let route = Route { ids: &ids, tokens, used: e.used, order: Some(&order) };
        let experts = self.matrices(Group::GateUp);
        let (x, left) = (Input::f32(&s.n2), Left::Tokens);
        Ok(Product { experts: &experts, x, left, route, y: &s.gate_up }.record(rec)?)
    }

    /// From gate and up to what the layer adds to the residual stream.
    pub(super) fn down(&self, rec: &mut Recorder, s: &Tensors, out: &Slice) -> Result<()> {
        let g = self.g;
        self.glu(rec, &s.gate_up, &s.gated)?;
        let [ids, weights, y] = [self.spots.ids, self.spots.weights, self.spots.out].map(|p| g.at(p));
        let order = self.order();
        let route = Route { ids: &ids, tokens: g.tokens, used: self.e.used, order: Some(&order) };
        let experts = self.matrices(Group::Down);
        let (x, left) = (Input::f32(&s.gated), Left::Positions);
        Product { experts: &experts, x, left, route, y: &y }.record(rec)?;
        Ok(combine(rec, &y, Some(&weights), &route, (out, false), g.c.width)?)
    }

    fn glu(&self, rec: &mut Recorder, x: &Slice, y: &Slice) -> Result<()> {
        let out = weft_kernels::ops::Format::F32;
        let (tokens, width) = (self.slots(), self.e.width);
        Ok(Glu { x, y, out, act: self.act(), tokens, width }.record(rec)?)
    }

    /// From dx, the gradient of the layer's output, to dn, that of what experts and router read, if it is `needed`,
    /// which is returned.
    pub(super) fn backward(
        &self,
        rec: &mut Recorder,
        s: &Tensors,
        [dx, dn]: [&Slice; 2],
        needed: bool,
    ) -> Result<bool> {
        if !needed {
            return Ok(false);
        }
        let (g, e, spots, width) = (self.g, self.e, self.spots, self.g.c.width);
        // Gate and up are never kept: they are a token's as many times as it has experts.
        self.gate_half(rec, s)?;
        let [ids, weights, dw, din] = [spots.ids, spots.weights, spots.dweights, spots.din].map(|p| g.at(p));
        let (h, dh) = (g.at(spots.gated), g.at(g.buffers.d.gated));
        let order = self.order();
        let route = Route { ids: &ids, tokens: g.tokens, used: e.used, order: Some(&order) };
        self.glu(rec, &s.gate_up, &h)?;
        let experts = self.matrices(Group::Down);
        InputGradient { experts: &experts, dy: dx, left: Left::Tokens, route, dx: &dh }.record(rec)?;
        weigh(rec, Weigh { h: &h, g: &dh, weights: &weights, dw: &dw }, &route, e.width)?;
        let (act, tokens) = (self.act(), self.slots());
        GluBackward { x: &s.gate_up, dy: &dh, act, tokens, width: e.width }.record(rec)?;
        let experts = self.matrices(Group::GateUp);
        let (dy, left) = (&s.gate_up, Left::Positions);
        InputGradient { experts: &experts, dy, left, route, dx: &din }.record(rec)?;
        combine(rec, &din, None, &route, (dn, false), width)?;

        let [logits, dlogits] = [spots.logits, spots.dlogits].map(|p| g.at(p));
        let from = Routes { ids: &ids, weights: &dw };
        router::backward(rec, &logits, from, &dlogits, g.tokens, &self.routing())?;
        let router = &g.w.parts(Site::Router(self.layer))[0].weight;
        let dy = Gradient::new(&dlogits, Columns::all(e.count), RANGE);
        linear_gradient(rec, router, dy, dn, g.tokens, true)?;
        Ok(true)
    }
}
