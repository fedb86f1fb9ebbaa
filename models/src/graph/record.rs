//! From nodes to dispatches.

use weft_kernels::ops::Format;
use weft_kernels::ops::activation::Activate;
use weft_kernels::ops::attention::decode::{self, Decode};
use weft_kernels::ops::attention::{self, Attention, Scratch, Sequences};
use weft_kernels::ops::experts::{Left, imatrix as experts_imatrix};
use weft_kernels::ops::gather;
use weft_kernels::ops::imatrix::accumulate;
use weft_kernels::ops::matmul::chain::{self, ChainOutput, chained, chained_mixed};
use weft_kernels::ops::matmul::{Columns, Epilogue, Input, Variant, linear, linear_two};
use weft_kernels::ops::pooling::{self, Normalize, PoolRows};
use weft_kernels::ops::qk_norm_rope::{self, QkNormRope};
use weft_kernels::ops::quantize::{self, Quantized, quantize, quantize8};
use weft_kernels::ops::rmsnorm;
use weft_kernels::ops::rope::Rotation;
use weft_kernels::ops::sample::{Sample, State};
use weft_kernels::ops::softcap::Softcap;
use weft_kernels::ops::tile::Tile;
use weft_runtime::{Recorder, Slice};

use super::common::{Common, Recorded};
use super::node::{ChainTo, Info, Ints, Node, Routes, Value};
use super::pass::{Frame, splits};
use super::planned::Graph;
use crate::Result;
use crate::kv::Cache;
use crate::lora::Applied;
use crate::sites::{NormSite, Site};
use crate::spec::Pooling;
use crate::weights::{Part, Weights};

/// What a program reads and writes besides activations.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    /// `[sequences]` of [`State`]; caches in blocks have behind that what [`Pages`](weft_kernels::layout::Pages) says.
    pub(crate) state: &'a Slice,
    /// `[tokens]` u32.
    pub(crate) ids: &'a Slice,
    /// `[sequences, context]` u32.
    pub(crate) history: &'a Slice,
    /// Each rotary embedding has its angles here, `[128 + context / 128, pairs]` of (cosine, sine) f32.
    pub(crate) tables: &'a [Slice],
    /// The last token's residual `[width]` f32, in a block of its own so that it can be copied to.
    pub(crate) last_row: &'a Slice,
    /// Keys and values.
    pub(crate) cache: &'a Cache,
    pub(crate) activations: &'a Slice,
    /// Adapters.
    pub(crate) lora: Option<Applied<'a>>,
    /// For [`Want::Taps`](super::pass::Want::Taps): `[layers + 2]` of `[tokens, width]` f32.
    pub(crate) taps: &'a [Slice],
    /// For [`Want::Sums`](super::pass::Want::Sums).
    pub(crate) sums: Option<&'a Sums>,
    /// For whole sequences.
    pub(crate) packed: Option<&'a Packed>,
    /// For [`Want::Chosen`](super::pass::Want::Chosen): `[..]` u32, whose logits are wanted.
    pub(crate) chosen: Option<&'a Slice>,
}

/// Where the tokens of whole sequences are from.
pub(crate) struct Packed {
    /// `[tokens]` of two u32: the first token of each token's sequence, and one past its last.
    pub(crate) spans: Slice,
    /// `[sequences]` of the same, for each sequence.
    pub(crate) bounds: Slice,
    /// `[tokens]` u32: positions in their sequences, and types; rows of the tables that are added to the embedding.
    pub(crate) rows: [Slice; 2],
}

/// Where sums of squares lie.
pub(crate) struct Sums {
    /// Each layer has one `[inputs]` f32 for each group of matrices with one input; of experts
    /// `[experts, inputs]`, and behind them `[experts]` of how many choices each is over.
    pub(crate) layers: Vec<[Slice; 4]>,
    /// The sums of the output head's input, `[width]` f32.
    pub(crate) head: Option<Slice>,
}

/// Everything that recording a node takes.
struct Ctx<'a> {
    f: &'a Frame<'a>,
    g: &'a Graph,
    w: &'a Weights,
    m: &'a Memory<'a>,
    common: Common<'a>,
}

impl Graph {
    /// Records the program. Returns where the logits are, if there are any.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub(crate) fn record(
        &self,
        rec: &mut Recorder,
        f: &Frame<'_>,
        w: &Weights,
        m: &Memory<'_>,
    ) -> Result<Option<Slice>> {
        let mut slices = self.places.slices(m.activations);
        for (slice, _) in slices.iter_mut().zip(&self.values).filter(|(_, info)| info.apart) {
            *slice = Some(m.last_row.clone());
        }
        let common = Common {
            caps: f.caps,
            spec: f.spec,
            w,
            tokens: self.pass.tokens,
            ids: m.ids,
            spans: m.packed.map(|p| &p.spans),
            rows: m.packed.map_or(&[], |p| &p.rows),
            tables: m.tables,
            rotations: f.spec.rotations(),
            values: &self.values,
            slices,
        };
        let ctx = Ctx { f, g: self, w, m, common };
        for node in &self.nodes {
            ctx.node(rec, node)?;
        }
        Ok(self.logits.map(|v| ctx.at(v)))
    }
}

impl Ctx<'_> {
    fn at(&self, v: Value) -> Slice {
        self.common.at(v)
    }

    fn info(&self, v: Value) -> Info {
        self.common.info(v)
    }

    fn ints(&self, i: Ints) -> Quantized {
        self.common.ints(i)
    }

    fn rotation(&self, layer: u32) -> (&Rotation, &Slice) {
        self.common.rotation(layer)
    }

    fn eps(&self, norm: NormSite) -> f32 {
        self.common.eps(norm)
    }

    /// Whether parameters are in the kernels' text: a step of slots is replayed for every token.
    fn specialised(&self) -> bool {
        self.g.pass.rows()
    }

    fn node(&self, rec: &mut Recorder, node: &Node) -> Recorded {
        let m = self.m;
        match *node {
            Node::Embed { .. }
            | Node::Norm { .. }
            | Node::Heads { .. }
            | Node::AttendPacked { .. }
            | Node::Glu { .. }
            | Node::Route { .. }
            | Node::ExpertProduct { .. }
            | Node::Combine { .. } => self.common.node(rec, node),
            Node::Product { .. } => self.product(rec, node),
            Node::AddNorm { x, norm, into } => self.add_norm(rec, x, norm, into),
            Node::Softcap { x, cap } => {
                let Info { rows, cols, .. } = self.info(x);
                Softcap { x: &self.at(x), rows, cols, cap }.record(rec)
            }
            Node::Activate { layer, x, out } => self.activate(rec, layer, x, out),
            Node::Pool { x, out, pooling } => self.pool(rec, x, out, pooling),
            Node::Normalize { x } => {
                let Info { rows, cols, .. } = self.info(x);
                Normalize { x: &self.at(x), rows, cols }.record(rec)
            }
            Node::Rope { layer, qkv, q } => self.rope(rec, layer, qkv, q),
            Node::Attend { layer, q, out, scratch } => self.attend(rec, layer, (q, out), scratch),
            Node::AttendOne { .. } => self.attend_one(rec, node),
            Node::Tile { x, out } => self.tile(rec, x, out),
            Node::Observe { x, site, experts } => self.observe(rec, x, site, experts),
            Node::Tap { x, index } => {
                let Info { rows, cols, .. } = self.info(x);
                rec.copy(&self.at(x).range(0, u64::from(rows) * u64::from(cols) * 4), &m.taps[index]);
                Ok(())
            }
            Node::LastRow { x, .. } => {
                let Info { rows, cols, .. } = self.info(x);
                let row = u64::from(cols) * 4;
                rec.copy(&self.at(x).range(u64::from(rows - 1) * row, row), m.last_row);
                Ok(())
            }
            Node::TakeRows { x, out } => {
                let (rows, Info { rows: count, cols: width, .. }) =
                    (m.chosen.expect("given"), self.info(out));
                let shape = gather::Shape { total: self.info(x).rows, count, width, index0: 0 };
                gather::gather(rec, &self.at(x), rows, &self.at(out), &shape)
            }
            Node::Sample { logits, scratch } => self.sample(rec, logits, scratch),
            Node::Quantize { x, norm: None, out } => {
                let Info { rows, cols, .. } = self.info(x);
                quantize(rec, &self.at(x), &self.ints(out), rows * cols)
            }
            Node::Quantize { x, norm: Some(norm), out } => {
                let Info { rows, cols, .. } = self.info(x);
                quantize::normed(rec, &self.at(x), self.w.norm(norm), &self.ints(out), [rows, cols])
            }
            Node::Chain { site, x, normed, to } => self.chain(rec, site, (x, normed), to),
        }
    }

    fn add_norm(&self, rec: &mut Recorder, y: Value, norm: NormSite, into: Value) -> Recorded {
        let Info { rows, cols, .. } = self.info(into);
        let (y, w, x, eps) = (self.at(y), self.w.norm(norm), self.at(into), self.eps(norm));
        rmsnorm::PostNorm { y: &y, w, x: &x, rows, cols, eps }.record(rec)
    }

    /// The products of a site, side by side, and what adapters add.
    fn product(&self, rec: &mut Recorder, node: &Node) -> Recorded {
        let Node::Product { x, site, out, add, ints, scratch, norm } = *node else { return Ok(()) };
        let Info { rows, cols, format, .. } = self.info(x);
        let (x, y) = (self.at(x), self.at(out));
        let parts = self.w.parts(site);
        let ints = ints.map(|i| self.ints(i));
        if let Some(ints) = &ints {
            let few = parts
                .iter()
                .any(|p| Variant::pick(rec.gpu().caps(), p.weight.shape.ty, rows) == Variant::MatvecDot);
            let quantize = if few { quantize } else { quantize8 };
            quantize(rec, &x, ints, rows * cols)?;
        }
        let stride = parts.iter().map(|p| p.weight.shape.rows).sum();
        let scratch = scratch.map(|s| self.at(s));
        let normed = norm.map(|(site, to)| (site, self.at(to), self.info(to).format));
        let norm = normed.as_ref().map(|(site, to, format)| rmsnorm::Norm {
            w: self.w.norm(*site),
            eps: self.eps(*site),
            to: (to, *format),
        });
        let input = Input { x: &x, ints: ints.as_ref(), format };
        let joined = match parts {
            [Part { weight: a, bias: None }, Part { weight: b, bias: None }] if !add => {
                linear_two(rec, [a, b], input, &y, rows)?
            }
            _ => false,
        };
        let mut column = 0;
        for Part { weight, bias } in parts.iter().filter(|_| !joined) {
            let epilogue = Epilogue {
                bias: bias.as_ref(),
                add,
                scratch: scratch.as_ref(),
                specialised: self.specialised(),
                norm,
                ..Epilogue::default()
            };
            linear(rec, weight, input, (&y, Columns { stride, column }), rows, epilogue)?;
            column += weight.shape.rows;
        }
        if let (Some(lora), Site::Layer(layer, group)) = (self.m.lora, site) {
            let input = Input { x: &x, ints: None, format };
            lora.add(rec, (layer, group), input, &y, (self.f.spec, rows))?;
        }
        Ok(())
    }

    /// The weights of QK-norm as a layer's cache takes them, or the bias that it keeps its keys without.
    fn norms_or_bias(&self, layer: u32) -> Option<&Slice> {
        let (l, cache) = (&self.w.layers[layer as usize], self.f.kv.layer(layer));
        match cache.blocks() {
            _ if cache.apart => l.key_bias.as_ref(),
            0 => l.qk_norm.as_ref(),
            _ => l.qk_norm_even.as_ref().or(l.qk_norm.as_ref()),
        }
    }

    fn rope(&self, rec: &mut Recorder, layer: u32, qkv: Value, q: Value) -> Recorded {
        let (m, spec) = (self.m, self.f.spec);
        let a = &spec.blocks[layer as usize].attention;
        let (rotation, table) = self.rotation(layer);
        let shape = qk_norm_rope::Shape {
            tokens: self.g.pass.tokens,
            heads: a.heads,
            cache: self.f.kv.layer(layer),
            rotation,
            eps: spec.blocks[layer as usize].norm.eps(),
            sequences: self.g.pass.sequences,
        };
        let norms = self.norms_or_bias(layer);
        let (qkv, q) = (self.at(qkv), self.at(q));
        let (state, chunks) = (m.state, m.cache.layer(layer));
        QkNormRope { state, table, norms, qkv: &qkv, q: &q, chunks, shape: &shape }.record(rec)
    }

    fn attend(
        &self,
        rec: &mut Recorder,
        layer: u32,
        (q, out): (Value, Value),
        scratch: [Value; 2],
    ) -> Recorded {
        let a = &self.f.spec.blocks[layer as usize].attention;
        let pass = self.g.pass;
        let shape = attention::Shape {
            tokens: pass.tokens,
            heads: a.heads,
            window: a.mask.window(),
            scale: a.scale,
            splits: match pass.sequences {
                Sequences::One => {
                    let kv = self.f.kv;
                    splits(pass.tokens, kv.held(layer, pass.positions), kv.layer(layer))
                }
                Sequences::Slots { .. } | Sequences::Mixed => 1,
            },
            sequences: pass.sequences,
        };
        let [o, lse] = scratch.map(|v| self.at(v));
        let (kv, chunks) = (self.f.kv.layer(layer), self.m.cache.layer(layer));
        let (q, out) = (self.at(q), self.at(out));
        let (state, scratch, table) = (self.m.state, Scratch { o, lse }, self.rotation(layer).1);
        Attention { state, q: &q, cache: kv, chunks, scratch: &scratch, table, o: &out, shape: &shape }
            .record(rec)
    }

    fn attend_one(&self, rec: &mut Recorder, node: &Node) -> Recorded {
        let Node::AttendOne { layer, qkv, out, ints, scratch } = *node else { return Ok(()) };
        let (m, spec, pass) = (self.m, self.f.spec, self.g.pass);
        let a = &spec.blocks[layer as usize].attention;
        let cache = self.f.kv.layer(layer);
        let (rotation, table) = self.rotation(layer);
        let positions = self.f.kv.held(layer, pass.positions);
        let shape = decode::Shape {
            heads: a.heads,
            cache,
            rotation,
            eps: spec.blocks[layer as usize].norm.eps(),
            window: a.mask.window(),
            scale: a.scale,
            split: self.f.split(pass, layer),
            positions: positions.min(cache.context),
            tokens: pass.tokens,
            sequences: pass.sequences,
        };
        let [o, lse] = scratch.map(|v| self.at(v));
        let norms = self.norms_or_bias(layer);
        let format = self.info(out).format;
        let (qkv, out, ints) = (self.at(qkv), self.at(out), ints.map(|i| self.ints(i)));
        let kv = &m.cache.layer(layer)[0];
        let scratch = Scratch { o, lse };
        Decode {
            state: m.state,
            table,
            norms,
            qkv: &qkv,
            cache: kv,
            scratch: &scratch,
            o: &out,
            out: format,
            ints: ints.as_ref(),
            shape: &shape,
        }
        .record(rec)
    }

    fn packed(&self) -> &Packed {
        self.m.packed.expect("given for whole sequences")
    }

    fn activate(&self, rec: &mut Recorder, layer: u32, x: Value, out: Value) -> Recorded {
        let Info { rows, cols, format, .. } = self.info(out);
        let (x, y) = (self.at(x), self.at(out));
        Activate { x: &x, y: &y, out: format, act: self.common.activation(layer), tokens: rows, width: cols }
            .record(rec)
    }

    fn pool(&self, rec: &mut Recorder, x: Value, out: Value, pooling: Pooling) -> Recorded {
        let pooling = match pooling {
            Pooling::Cls => pooling::Pooling::First,
            Pooling::Mean => pooling::Pooling::Mean,
            Pooling::Last => pooling::Pooling::Last,
        };
        let Info { rows: tokens, cols: width, .. } = self.info(x);
        let (bounds, sequences) = (&self.packed().bounds, self.info(out).rows);
        let (x, y) = (self.at(x), self.at(out));
        PoolRows { x: &x, bounds, y: &y, pooling, tokens, sequences, width }.record(rec)
    }

    fn tile(&self, rec: &mut Recorder, x: Value, out: Value) -> Recorded {
        let Info { rows, cols, format, .. } = self.info(out);
        let Format::Tiles { side } = format else { return Ok(()) };
        let (from, x, y) = (self.info(x).format, self.at(x), self.at(out));
        Tile { x: &x, from, columns: Columns::all(cols), y: &y, rows, cols, side, scale: 1.0 }.record(rec)
    }

    fn observe(&self, rec: &mut Recorder, x: Value, site: Site, experts: Option<(Left, Routes)>) -> Recorded {
        let Info { rows, cols, format, .. } = self.info(x);
        let sums = self.m.sums.and_then(|s| match site {
            Site::Layer(layer, group) => s.layers.get(layer as usize).map(|l| &l[group as usize]),
            Site::Head => s.head.as_ref(),
            Site::Router(_) => None,
        });
        let (Some(s), x) = (sums, self.at(x)) else { return Ok(()) };
        let Some((left, routes)) = experts else { return accumulate(rec, (&x, format), s, rows, cols) };
        let (ids, order) = (self.at(routes.ids), self.common.order(routes));
        let route = self.common.route_of(routes, &ids, order.as_ref());
        let count = self.common.routing(routes.layer).experts;
        experts_imatrix::accumulate(rec, (&x, left), s, &route, [count, cols])
    }

    fn sample(&self, rec: &mut Recorder, logits: Value, scratch: Value) -> Recorded {
        let m = self.m;
        let pass = self.g.pass;
        // One sequence has its last token drawn from, slots every one.
        let (rows, each) = if pass.sequences == Sequences::One { (1, pass.tokens) } else { (pass.tokens, 1) };
        let (logits, scratch) = (self.at(logits), self.at(scratch));
        let state = match (pass.sequences, self.f.kv.piece()) {
            (Sequences::One, Some(piece)) => &m.state.range(piece, size_of::<State>() as u64),
            _ => m.state,
        };
        Sample {
            state,
            logits: &logits,
            maxima: &scratch,
            ids: m.ids,
            history: m.history,
            vocab: self.f.spec.vocabulary,
            slots: rows,
            tokens: each,
        }
        .record(rec)
    }

    fn chain(&self, rec: &mut Recorder, site: Site, (x, normed): (Ints, bool), to: ChainTo) -> Recorded {
        let ints = self.ints(x);
        let tokens = self.g.pass.tokens;
        let input = chain::Input { ints: &ints, tokens, norm: normed.then(|| self.f.spec.eps()) };
        let parts = self.w.parts(site);
        match to {
            ChainTo::Rows { out } => {
                let y = self.at(out);
                let stride = parts.iter().map(|p| p.weight.shape.rows).sum();
                if let [Part { weight: a, bias: None }, Part { weight: b, bias: None }] = parts
                    && chained_mixed(rec, [a, b], input, &y, stride)?
                {
                    return Ok(());
                }
                let mut column = 0;
                for Part { weight, bias } in parts {
                    let columns = Columns { stride, column };
                    let end = ChainOutput::Rows { y: &y, columns, bias: bias.as_ref() };
                    chained(rec, weight, input, end)?;
                    column += weight.shape.rows;
                }
                Ok(())
            }
            ChainTo::Residual { into, norm, out } => {
                let (h, out) = (self.at(into), self.ints(out));
                let end = ChainOutput::Residual { h: &h, norm: self.w.norm(norm), out: &out };
                chained(rec, &parts[0].weight, input, end)
            }
            ChainTo::Glu { out } => {
                let out = self.ints(out);
                chained(rec, &parts[0].weight, input, ChainOutput::SwiGlu { out: &out })
            }
        }
    }
}
