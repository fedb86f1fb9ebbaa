//! The training graph: forward, loss and backward of a packed batch, recorded as programs.
//!
//! A layer, with its residual stream x coming in, `W'` a frozen matrix plus its adapter:
//! ```text
//! n1 = norm(x)      qkv = n1 Wqkv'     q, k, v = heads(qkv)      attended = attention(q, k, v)
//! mid = x + attended Wo'
//! n2 = norm(mid)    gate_up = n2 Wgu'  gated = swiglu(gate_up)   out = mid + gated Wdown'
//! ```
//! and backwards in the opposite order, with dx the gradient of `out`, then of `mid`, then of `x`: the
//! residual stream's gradient stays in one tensor, to which each half layer adds its own.
//!
//! The loss is the sum of -ln p(label), so that gradients are about as large as those of one token,
//! whatever the batch; AdamW multiplies by one over the tokens.

use weft_kernels::ops::activation::Activation;
use weft_kernels::ops::add::add;
use weft_kernels::ops::attention::backward::Backward as AttentionBackward;
use weft_kernels::ops::attention::train as attention;
use weft_kernels::ops::cast::cast;
use weft_kernels::ops::cross_entropy::CrossEntropy;
use weft_kernels::ops::embed::Embed;
use weft_kernels::ops::glu::{Glu, GluBackward};
use weft_kernels::ops::matmul::{Columns, Epilogue, Gradient, Input, Variant, linear, linear_gradient};
use weft_kernels::ops::qk_norm_rope::train as qk_norm_rope;
use weft_kernels::ops::rope::Rotation;
use weft_kernels::ops::{Format, adamw, gather, rmsnorm};
use weft_runtime::{Gpu, Placed, Recorder, Slice};

use super::AdapterShape;
use super::adapter::Flat;
use super::plan::{Buffers, LayerSpots, Spot, attention_shape};
use super::product::{Product, product};
use crate::graph::activation;
use crate::sites::{Group, NormSite, Site};
use crate::spec::Ffn;
use crate::weights::Weights;
use crate::{Result, Spec};

/// Brings gradients into the range of f16 where cooperative matrices round them: those of a token's own
/// loss are below 1, and most are below 1e-2.
pub(super) const RANGE: f32 = 256.0;

/// The memory that programs work in.
pub(crate) struct Memory {
    pub(crate) scratch: Slice,
    /// Of each layer that is trained on.
    pub(crate) kept: Vec<Slice>,
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
    /// Of the dropout.
    pub(crate) seed: Slice,
}

/// Everything a program is recorded from.
pub(crate) struct Graph<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) c: &'a Spec,
    pub(crate) w: &'a Weights,
    pub(crate) adapter: &'a AdapterShape,
    pub(crate) flat: &'a Flat,
    pub(crate) buffers: &'a Buffers,
    pub(crate) m: &'a Memory,
    /// What B A is multiplied by.
    pub(crate) scale: f32,
    /// Of the adapters' inputs; 0 where a batch is only evaluated.
    pub(crate) dropout: f32,
    pub(crate) checkpointing: bool,
    pub(crate) tokens: u32,
    /// As [`Spec::rotations`] gives them.
    pub(crate) rotations: &'a [Rotation],
}

/// A layer's tensors, in memory.
pub(super) struct Tensors {
    x: Slice,
    n1: Slice,
    qkv: Slice,
    qkv_split: [Slice; 3],
    attended: Slice,
    lse: Slice,
    pub(super) mid: Slice,
    pub(super) n2: Slice,
    pub(super) gate_up: Slice,
    kept_gate_up: Option<Slice>,
    pub(super) gated: Slice,
    given: Option<[Slice; 2]>,
    t: [Slice; 4],
}

impl Graph<'_> {
    pub(super) fn at(&self, p: Placed) -> Slice {
        self.buffers.scratch.slice(&self.m.scratch, p)
    }

    /// The residual stream before layer `i`, or after the last.
    fn stream(&self, i: u32) -> Slice {
        match i.checked_sub(self.buffers.first_layer) {
            Some(at) if i < self.c.layers() => match self.buffers.forward.x {
                Spot::Kept(offset, bytes) => self.m.kept[at as usize].range(offset, bytes),
                Spot::Scratch(p) => self.at(p),
            },
            _ => self.at(self.buffers.stream[i as usize % 2]),
        }
    }

    fn tensors(&self, i: u32, spots: &LayerSpots) -> Tensors {
        let at = |s: Spot| match s {
            Spot::Scratch(p) => self.at(p),
            // Layers that are not trained on keep nothing: their tensors lie in the first one's memory,
            // which is not yet written.
            Spot::Kept(offset, bytes) => {
                self.m.kept[i.saturating_sub(self.buffers.first_layer) as usize].range(offset, bytes)
            }
        };
        Tensors {
            x: self.stream(i),
            n1: at(spots.n1),
            qkv: at(spots.qkv),
            qkv_split: [at(spots.q), at(spots.k), at(spots.v)],
            attended: at(spots.attended),
            lse: at(spots.lse),
            mid: at(spots.mid),
            n2: at(spots.n2),
            gate_up: at(spots.gate_up),
            kept_gate_up: self.buffers.kept_gate_up.map(at),
            gated: at(spots.gated),
            given: spots.given.map(|g| g.map(at)),
            t: spots.t.map(at),
        }
    }

    fn heads(&self, i: u32) -> qk_norm_rope::Shape<'_> {
        let c = self.c;
        qk_norm_rope::Shape {
            tokens: self.tokens,
            heads: c.heads(),
            kv_heads: c.kv_heads(),
            head_dim: c.head_dim(),
            rotation: &self.rotations[c.rotation_of(i)],
            eps: c.eps(),
        }
    }

    /// The residual stream behind a half: what it gave, `given`, normed or not, added to x.
    fn leave(
        &self,
        rec: &mut Recorder,
        x: &Slice,
        given: Option<(&Slice, NormSite)>,
        out: &Slice,
    ) -> Result<()> {
        let (rows, cols, eps) = (self.tokens, self.c.width, self.c.eps());
        if let Some((y, norm)) = given {
            rmsnorm::rmsnorm(rec, y, self.w.norm(norm), out, rows, cols, eps)?;
        }
        Ok(add(rec, x, out, rows * cols)?)
    }

    /// The gradient of what a half gave, from that of the residual stream behind it.
    fn given_gradient(
        &self,
        rec: &mut Recorder,
        given: Option<(&Slice, NormSite)>,
        dx: &Slice,
    ) -> Result<Slice> {
        let Some(((y, norm), dy)) = given.zip(self.buffers.d.given) else { return Ok(dx.clone()) };
        let (dy, w) = (self.at(dy), self.w.norm(norm));
        rmsnorm::Backward {
            x: y,
            w,
            dy: dx,
            dx: &dy,
            rows: self.tokens,
            cols: self.c.width,
            eps: self.c.eps(),
            add: false,
        }
        .record(rec)?;
        Ok(dy)
    }

    /// The activation of the gate.
    fn act(&self) -> Activation {
        match self.c.blocks[0].ffn {
            Ffn::Gated { act, .. } | Ffn::Plain { act, .. } => activation(act),
            Ffn::Experts(e) => activation(e.act),
        }
    }

    /// The norm before a product, as the product wants it.
    fn norm<'y>(
        &self,
        rec: &mut Recorder,
        x: &Slice,
        w: &Slice,
        y: &'y Slice,
        p: &Product<'_>,
    ) -> Result<(&'y Slice, Format)> {
        let y = (y, self.format(p));
        rmsnorm::rmsnorm_to(rec, x, w, y, self.tokens, self.c.width, self.c.eps())?;
        Ok(y)
    }

    /// From x to mid.
    fn attention_half(&self, rec: &mut Recorder, i: u32, s: &Tensors) -> Result<()> {
        let c = self.c;
        let qkv = product(self.w, i, Group::Qkv);
        let n1 = self.norm(rec, &s.x, self.w.norm(NormSite::Attention(i)), &s.n1, &qkv)?;
        self.forward_product(rec, i, &qkv, n1, &s.t[0], &s.qkv)?;
        self.split_heads(rec, i, s)?;
        let shape = attention_shape(c, i, self.tokens);
        let split = s.qkv_split.each_ref();
        attention::attention(rec, &self.m.spans, split, &s.attended, &s.lse, &shape)?;
        let attended = (&s.attended, Format::F32);
        let given = s.given.as_ref().map(|g| (&g[0], NormSite::AfterAttention(i)));
        let y = given.map_or(&s.mid, |g| g.0);
        self.forward_product(rec, i, &product(self.w, i, Group::Output), attended, &s.t[1], y)?;
        self.leave(rec, &s.x, given, &s.mid)
    }

    fn split_heads(&self, rec: &mut Recorder, i: u32, s: &Tensors) -> Result<()> {
        let (m, norms) = (self.m, self.w.layers[i as usize].qk_norm.as_ref());
        Ok(qk_norm_rope::forward(
            rec,
            &m.spans,
            &m.tables[self.c.rotation_of(i)],
            norms,
            &s.qkv,
            s.qkv_split.each_ref(),
            &self.heads(i),
        )?)
    }

    /// From mid to gate and up.
    fn gate_half(&self, rec: &mut Recorder, i: u32, s: &Tensors) -> Result<()> {
        if let Some(layer) = self.experts(i) {
            return layer.gate_half(rec, s);
        }
        let gate_up = product(self.w, i, Group::GateUp);
        let n2 = self.norm(rec, &s.mid, self.w.norm(NormSite::Ffn(i)), &s.n2, &gate_up)?;
        self.forward_product(rec, i, &gate_up, n2, &s.t[2], &s.gate_up)
    }

    /// The values of gate and up, from or to what is kept of them in f16, if anything is.
    fn kept_gate_up(&self, rec: &mut Recorder, s: &Tensors, to: Format) -> Result<()> {
        let Some(kept) = &s.kept_gate_up else { return Ok(()) };
        let n = u64::from(self.tokens) * 2 * u64::from(self.c.feed_forward());
        match to {
            Format::F32 => Ok(cast(rec, kept, (&s.gate_up, to), n)?),
            _ => Ok(cast(rec, &s.gate_up, (kept, to), n)?),
        }
    }

    /// The forward pass, up to the residual stream after the last layer, whose gradient is cleared.
    pub(crate) fn forward(&self) -> Result<Recorder> {
        let mut rec = Recorder::new(self.gpu);
        let rec = &mut rec;
        let c = self.c;
        let x = self.stream(0);
        let ids = Embed::new(&self.w.embedding.weight, &self.m.ids, &x, self.tokens);
        Embed { scale: c.embed.scale, ..ids }.record(rec)?;
        for i in 0..c.layers() {
            let s = self.tensors(i, &self.buffers.forward);
            self.attention_half(rec, i, &s)?;
            self.gate_half(rec, i, &s)?;
            if i >= self.buffers.first_layer {
                self.kept_gate_up(rec, &s, Format::F16)?;
            }
            let out = self.stream(i + 1);
            if let Some(layer) = self.experts(i) {
                layer.down(rec, &s, &out)?;
                add(rec, &s.mid, &out, self.tokens * c.width)?;
                continue;
            }
            let down = product(self.w, i, Group::Down);
            let gated = (&s.gated, self.format(&down));
            self.glu(&s.gate_up, gated).record(rec)?;
            let given = s.given.as_ref().map(|g| (&g[1], NormSite::AfterFfn(i)));
            let y = given.map_or(&out, |g| g.0);
            self.forward_product(rec, i, &down, gated, &s.t[3], y)?;
            self.leave(rec, &s.mid, given, &out)?;
        }
        adamw::zero(rec, &self.at(self.buffers.d.x))?;
        Ok(std::mem::replace(rec, Recorder::new(self.gpu)))
    }

    /// What gates a layer's feed-forward values.
    fn glu<'b>(&self, x: &'b Slice, (y, out): (&'b Slice, Format)) -> Glu<'b> {
        Glu { x, y, out, act: self.act(), tokens: self.tokens, width: self.c.feed_forward() }
    }

    /// The loss of `n` rows, and with `gradient` the gradient of the residual stream there.
    pub(crate) fn loss(&self, n: u32, gradient: bool) -> Result<Recorder> {
        let mut rec = Recorder::new(self.gpu);
        let (c, m, s) = (self.c, self.m, &self.buffers.loss);
        let [x, y, logits, dy, dx, stats] = [s.x, s.n, s.logits, s.dn, s.dx, s.stats].map(|p| self.at(p));
        let head = &self.w.parts(Site::Head)[0].weight;
        let all = Columns::all(c.vocabulary);
        let total = (m.ids.size() / 4) as u32;
        let shape = gather::Shape { total, count: n, width: c.width, index0: 0 };
        gather::gather(&mut rec, &self.stream(c.layers()), &m.rows, &x, &shape)?;
        let coop = Variant::pick(self.gpu.caps(), head.shape.ty, n) == Variant::Coop;
        let format = if coop { Format::F16 } else { Format::F32 };
        rmsnorm::rmsnorm_to(&mut rec, &x, self.w.norm(NormSite::Output), (&y, format), n, c.width, c.eps())?;
        let input = Input { x: &y, ints: None, format };
        linear(&mut rec, head, input, (&logits, all), n, Epilogue::default())?;
        CrossEntropy {
            logits: &logits,
            labels: &m.labels,
            stats: &stats,
            scale: &m.loss_scale,
            row0: 0,
            rows: n,
            vocab: c.vocabulary,
        }
        .record(&mut rec)?;
        if gradient {
            // Rows are few and the vocabulary is deep: workgroups share the sum.
            let parts = self.at(self.buffers.parts);
            let d = Gradient { scratch: Some(&parts), ..Gradient::new(&logits, all, RANGE) };
            linear_gradient(&mut rec, head, d, &dy, n, false)?;
            rmsnorm::Backward {
                x: &x,
                w: self.w.norm(NormSite::Output),
                dy: &dy,
                dx: &dx,
                rows: n,
                cols: c.width,
                eps: c.eps(),
                add: false,
            }
            .record(&mut rec)?;
            gather::scatter(&mut rec, &dx, &m.rows, &self.at(self.buffers.d.x), &shape, false)?;
        }
        Ok(rec)
    }

    /// The backward pass: from the gradient of the residual stream after the last layer to those of the
    /// adapters.
    pub(crate) fn backward(&self) -> Result<Recorder> {
        let mut rec = Recorder::new(self.gpu);
        for i in (self.buffers.first_layer..self.c.layers()).rev() {
            self.backward_layer(&mut rec, i)?;
        }
        Ok(rec)
    }

    /// From dx, the gradient of a layer's output, to dn, that of what its feed-forward network reads. Returns whether
    /// anything before is trained.
    fn backward_ffn(&self, rec: &mut Recorder, i: u32, s: &Tensors, [dx, dn]: [&Slice; 2]) -> Result<bool> {
        let (c, n) = (self.c, self.tokens);
        let gated = self.at(self.buffers.d.gated);
        let needs = |group: Group| self.adapter.first() < (i, group);
        let [down, gate_up] = [Group::Down, Group::GateUp].map(|g| product(self.w, i, g));
        let n2 = (&s.n2, self.format(&gate_up));
        if self.checkpointing {
            self.gate_half(rec, i, s)?;
        } else {
            self.norm(rec, &s.mid, self.w.norm(NormSite::Ffn(i)), &s.n2, &gate_up)?;
            self.kept_gate_up(rec, s, Format::F32)?;
        }
        let needed = needs(Group::Down);
        let given = s.given.as_ref().map(|g| (&g[1], NormSite::AfterFfn(i)));
        let dy = self.given_gradient(rec, given, dx)?;
        self.input_gradient(rec, i, &down, &dy, needed.then_some(&gated))?;
        if needed {
            // Gate and up become their gradients, and the gradient of what they make becomes that.
            let act = self.act();
            GluBackward { x: &s.gate_up, dy: &gated, act, tokens: n, width: c.feed_forward() }.record(rec)?;
        } else {
            self.glu(&s.gate_up, (&gated, Format::F32)).record(rec)?;
        }
        if self.checkpointing {
            self.down(rec, i, &down, (&gated, Format::F32), &s.t[3])?;
        }
        self.adapter_gradient(rec, i, &down, &dy, (&gated, Format::F32), &s.t[3])?;
        if !needed {
            return Ok(false);
        }
        let needed = needs(Group::GateUp);
        self.input_gradient(rec, i, &gate_up, &s.gate_up, needed.then_some(dn))?;
        self.adapter_gradient(rec, i, &gate_up, &s.gate_up, n2, &s.t[2])?;
        Ok(needed)
    }

    fn backward_layer(&self, rec: &mut Recorder, i: u32) -> Result<()> {
        let (c, m, n) = (self.c, self.m, self.tokens);
        let s = self.tensors(i, &self.buffers.again);
        let d = &self.buffers.d;
        let [dx, dn, dattended, dqkv] = [d.x, d.n, d.attended, d.qkv].map(|p| self.at(p));
        // Whether anything before this product is trained.
        let needs = |group: Group| self.adapter.first() < (i, group);
        let [output, qkv] = [Group::Output, Group::Qkv].map(|g| product(self.w, i, g));
        if self.checkpointing {
            self.attention_half(rec, i, &s)?;
        }
        let goes_on = match self.experts(i) {
            Some(layer) => layer.backward(rec, &s, [&dx, &dn], needs(Group::GateUp))?,
            None => self.backward_ffn(rec, i, &s, [&dx, &dn])?,
        };
        if !goes_on {
            return Ok(());
        }
        rmsnorm::Backward {
            x: &s.mid,
            w: self.w.norm(NormSite::Ffn(i)),
            dy: &dn,
            dx: &dx,
            rows: n,
            cols: c.width,
            eps: c.eps(),
            add: true,
        }
        .record(rec)?;

        let needed = needs(Group::Output);
        let given = s.given.as_ref().map(|g| (&g[0], NormSite::AfterAttention(i)));
        let dy = self.given_gradient(rec, given, &dx)?;
        self.input_gradient(rec, i, &output, &dy, needed.then_some(&dattended))?;
        self.adapter_gradient(rec, i, &output, &dy, (&s.attended, Format::F32), &s.t[1])?;
        if !needed {
            return Ok(());
        }
        let s = self.tensors(i, &self.buffers.late);
        self.split_heads(rec, i, &s)?;
        let [dq, dk, dv, scratch] = [d.q, d.k, d.v, d.attention].map(|p| self.at(p));
        AttentionBackward {
            spans: &m.spans,
            qkv: s.qkv_split.each_ref(),
            o: &s.attended,
            lse: &s.lse,
            g: &dattended,
            scratch: &scratch,
            gradients: [&dq, &dk, &dv],
            shape: &attention_shape(c, i, n),
        }
        .record(rec)?;
        let norms = self.w.layers[i as usize].qk_norm.as_ref();
        qk_norm_rope::Backward {
            spans: &m.spans,
            table: &m.tables[c.rotation_of(i)],
            norms,
            qkv: &s.qkv,
            gradients: [&dq, &dk, &dv],
            dqkv: &dqkv,
            shape: &self.heads(i),
        }
        .record(rec)?;
        let n1 = self.norm(rec, &s.x, self.w.norm(NormSite::Attention(i)), &s.n1, &qkv)?;
        let needed = needs(Group::Qkv);
        self.input_gradient(rec, i, &qkv, &dqkv, needed.then_some(&dn))?;
        self.adapter_gradient(rec, i, &qkv, &dqkv, n1, &s.t[0])?;
        if needed {
            rmsnorm::Backward {
                x: &s.x,
                w: self.w.norm(NormSite::Attention(i)),
                dy: &dn,
                dx: &dx,
                rows: n,
                cols: c.width,
                eps: c.eps(),
                add: true,
            }
            .record(rec)?;
        }
        Ok(())
    }
}
