//! The decoder graph of Llama, Qwen2 and Qwen3: embedding, layers, output head, recorded as one
//! program for a batch of tokens.
//!
//! A layer, with `n` the RMSNorm of the residual stream `x`:
//! ```text
//! q, k, v = n Wq, n Wk, n Wv (+ biases)       q, k = norm of each head (Qwen3)
//! q, k    = rope(q), rope(k)                  cache[position] = k, v
//! x      += attention(q, cache) Wo
//! x      += (silu(n' Wgate) * (n' Wup)) Wdown
//! ```

use weft_kernels::ops::Format;
use weft_kernels::ops::activation::Activation;
use weft_kernels::ops::attention::{CacheShape, Scratch, Sequences, Shape, attention, decode};
use weft_kernels::ops::embed::Embed;
use weft_kernels::ops::glu::Glu;
use weft_kernels::ops::imatrix::accumulate;
use weft_kernels::ops::matmul::chain::{self, ChainEpilogue, ChainOutput, chained, chained_mixed};
use weft_kernels::ops::matmul::{Columns, Epilogue, Input, Variant, linear};
use weft_kernels::ops::qk_norm_rope::{self, qk_norm_rope};
use weft_kernels::ops::quantize::{self, Quantized, bytes_normed, quantize, quantize8};
use weft_kernels::ops::rmsnorm::{Norm, rmsnorm, rmsnorm_to};
use weft_kernels::ops::sample::{sample, scratch_bytes};
use weft_kernels::ops::split_k::{STREAMS, few_streams_bytes};
use weft_kernels::{Budget, Weight};
use weft_runtime::{Arena, Caps, Layout, Placed, Recorder, Slice};

use crate::importance::Sums;
use crate::lora::Lora;
use crate::train::Target;
use crate::{Result, Spec};

/// One layer's weights, in the order they are used.
pub(crate) struct Layer {
    pub(crate) attn_norm: Slice,
    /// Queries, keys and values.
    pub(crate) qkv: Vec<Part>,
    /// `[2, head_dim]`: of queries, of keys.
    pub(crate) qk_norm: Option<Slice>,
    pub(crate) output: Weight,
    pub(crate) ffn_norm: Slice,
    /// Gate and up.
    pub(crate) gate_up: Vec<Part>,
    pub(crate) down: Weight,
}

/// Matrices with one input whose outputs lie side by side, stacked as far as they share a type.
pub(crate) struct Part {
    pub(crate) weight: Weight,
    /// `[rows]`.
    pub(crate) bias: Option<Slice>,
}

/// A model's weights.
pub(crate) struct Weights {
    pub(crate) embedding: Weight,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Slice,
    /// `None`: the embedding.
    pub(crate) head: Option<Weight>,
}

/// Where a program's activations lie in one piece of memory.
pub(crate) struct Buffers {
    pub(crate) layout: Layout,
    x: Placed,
    n: Placed,
    qkv: Placed,
    q: Placed,
    attended: Placed,
    parts_o: Placed,
    parts_lse: Placed,
    gate_up: Placed,
    gated: Placed,
    last: Placed,
    logits: Placed,
    ints_q: Placed,
    ints_meta: Placed,
    chain: [(Placed, Placed); 3],
    maxima: Placed,
    /// Parts of sums that workgroups share.
    shared: Placed,
}

/// What a program computes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) tokens: u32,
    /// Whose they are.
    pub(crate) sequences: Sequences,
    /// Keep the logits of every position; of streams, which have a token each, they are always kept.
    pub(crate) all_logits: bool,
}

impl Job {
    /// Tokens of one sequence, of which the last one's logits count.
    pub(crate) fn one(tokens: u32) -> Job {
        Job { tokens, sequences: Sequences::One, all_logits: false }
    }

    /// Rows of logits.
    fn rows(self) -> u32 {
        let all = self.all_logits || self.sequences != Sequences::One;
        if all { self.tokens } else { 1 }
    }
}

/// Splits of the attention's keys that a program for `tokens` tokens uses when the cache holds up to
/// `positions`: one token alone cannot fill a GPU otherwise.
pub(crate) fn splits(tokens: u32, positions: u32) -> u32 {
    if tokens > 1 { 1 } else { decode::most_splits(positions) }
}

/// The most splits any program for this batch and this cache uses.
fn most_splits(c: &Spec, job: Job, cache: &CacheShape) -> u32 {
    match job.sequences {
        Sequences::One => splits(job.tokens, cache.context.next_power_of_two()),
        Sequences::Streams { context } => {
            let positions = context.next_power_of_two();
            let pick = decode::SplitConfig::pick(c.heads(), c.kv_heads(), cache.ty, positions, job.tokens);
            // Of one stream, a tuned split may have more.
            pick.splits.max(splits(job.tokens, positions))
        }
    }
}

impl Buffers {
    /// Bytes of activations for every batch of at most so many tokens: a few streams can take more than many.
    pub(crate) fn most(c: &Spec, cache: &CacheShape, job: Job, budget: &Budget) -> u64 {
        let bytes = |tokens| Buffers::plan(c, cache, Job { tokens, ..job }, budget).layout.total;
        [1, job.tokens.min(STREAMS), job.tokens].map(bytes).into_iter().max().unwrap_or(0)
    }

    /// Places the activations of a batch.
    pub(crate) fn plan(c: &Spec, cache: &CacheShape, job: Job, budget: &Budget) -> Buffers {
        let Job { tokens, sequences, .. } = job;
        let rows = |width: u32| u64::from(tokens) * u64::from(width) * 4;
        let (q, kv) = (c.heads() * c.head_dim(), c.kv_heads() * c.head_dim());
        let splits = most_splits(c, job, cache);
        let shape = Shape { tokens, heads: c.heads(), window: 0, scale: 1.0, splits, sequences };
        let (o, lse) = shape.scratch_bytes(cache);
        let logit_rows = job.rows();
        let mut a = Arena::new();
        // Steps of a layer: 0 norm, 1 q k v, 3 norm of heads, rope and cache, 4 attention,
        // 5 output, 6 norm, 7 gate and up, 8 swiglu, 9 down; then 10 last norm and head, 11 sample.
        let x = a.add(rows(c.width), 0, 11);
        let n = a.add(rows(c.width), 0, 7);
        let qkv = a.add(rows(q + 2 * kv), 1, 4);
        let q_ = a.add(rows(q), 3, 4);
        let attended = a.add(rows(q), 4, 5);
        let parts_o = a.add(o, 4, 4);
        let parts_lse = a.add(lse, 4, 4);
        let gate_up = a.add(rows(2 * c.feed_forward()), 7, 8);
        let gated = a.add(rows(c.feed_forward()), 8, 9);
        let last = a.add(u64::from(logit_rows) * u64::from(c.width) * 4, 10, 11);
        let logits = a.add(u64::from(logit_rows) * u64::from(c.vocabulary) * 4, 10, 11);
        // Integers of the products' inputs.
        let widest = u64::from(c.width.max(q).max(c.feed_forward()));
        let (q_bytes, meta_bytes) = quantize::bytes(u64::from(tokens) * widest);
        let ints_q = a.add(q_bytes, 0, 11);
        let ints_meta = a.add(meta_bytes, 0, 11);
        // Integers of a chained step: of the residual stream, of what attention gives, of SwiGLU.
        let chain = [
            bytes_normed(c.width.into()),
            quantize::bytes(q.into()),
            quantize::bytes(c.feed_forward().into()),
        ]
        .map(|(q, meta)| (a.add(q, 0, 11), a.add(meta, 0, 11)));
        let maxima = a.add(scratch_bytes(c.vocabulary, logit_rows), 11, 11);
        let shared = a.add(few_streams_bytes(tokens, budget), 1, 10);
        Buffers {
            layout: a.place(budget.align),
            x,
            n,
            qkv,
            q: q_,
            attended,
            parts_o,
            parts_lse,
            gate_up,
            gated,
            last,
            logits,
            ints_q,
            ints_meta,
            chain,
            maxima,
            shared,
        }
    }
}

/// What a program reads and writes besides activations.
pub(crate) struct Places<'a> {
    pub(crate) state: &'a Slice,
    pub(crate) ids: &'a Slice,
    pub(crate) history: &'a Slice,
    pub(crate) table: &'a Slice,
    /// The last token's residual, in its own block so that it can be copied to.
    pub(crate) last_x: &'a Slice,
    pub(crate) sequences: Sequences,
    pub(crate) cache: &'a CacheShape,
    /// Chunks of (keys, values) for each layer.
    pub(crate) kv: &'a [Vec<(Slice, Slice)>],
    pub(crate) activations: &'a Slice,
    /// Whether steps of one token multiply in integers, chained.
    pub(crate) integers: bool,
    /// Adapters, and room for what lies between their products.
    pub(crate) lora: Option<(&'a Lora, &'a Slice)>,
}

/// What comes out of a program.
pub(crate) enum Output<'a> {
    /// Nothing but the cache: a prefill chunk that is not the last.
    Cache,
    /// The next token, drawn and fed back.
    Token,
    /// Logits of every position.
    Logits,
    /// Logits of every position, the residual stream before the first and after each layer, and the
    /// normed output: `[layers + 2]` buffers of `[tokens, width]`.
    Taps(&'a [Slice]),
    /// Nothing but sums of squares of what each matrix multiplies.
    Sums(&'a Sums),
}

/// Whether every layer's products can be chained.
fn chains(caps: &Caps, w: &Weights) -> bool {
    let can = |w: &Weight, kind| chain::supports(caps, &w.shape, kind).is_ok();
    w.layers.iter().all(|l| {
        l.qkv.iter().all(|p| can(&p.weight, ChainEpilogue::Rows))
            && can(&l.output, ChainEpilogue::Residual)
            && l.gate_up.len() == 1
            && can(&l.gate_up[0].weight, ChainEpilogue::SwiGlu)
            && can(&l.down, ChainEpilogue::Residual)
    })
}

/// Records one batch of `tokens` tokens, whose ids and first position lie in GPU memory, on a cache
/// that will hold at most `positions`. Returns where the logits are.
pub(crate) fn record(
    rec: &mut Recorder,
    c: &Spec,
    w: &Weights,
    p: &Places<'_>,
    tokens: u32,
    positions: u32,
    output: &Output<'_>,
) -> Result<Slice> {
    let budget = rec.gpu().budget().clone();
    let all_logits = matches!(output, Output::Logits | Output::Taps(_));
    let sequences = p.sequences;
    // A step of streams is replayed for every token.
    let specialised = sequences != Sequences::One;
    let b = Buffers::plan(c, p.cache, Job { tokens, sequences, all_logits }, &budget);
    let at = |t: Placed| b.layout.slice(p.activations, t);
    let (x, n) = (at(b.x), at(b.n));
    let shared = (few_streams_bytes(tokens, &budget) > 0).then(|| at(b.shared));
    let scratch = Scratch { o: at(b.parts_o), lse: at(b.parts_lse) };
    let shape = Shape {
        tokens,
        heads: c.heads(),
        window: 0,
        scale: 1.0 / (c.head_dim() as f32).sqrt(),
        splits: if sequences == Sequences::One { splits(tokens, positions) } else { 1 },
        sequences,
    };
    let between = qk_norm_rope::Shape {
        tokens,
        heads: c.heads(),
        cache: p.cache,
        rotation: c.rotation(),
        eps: c.eps(),
        sequences,
    };
    // A token of a sequence in a single dispatch, where the device can.
    let steps = tokens == 1 || sequences != Sequences::One;
    let fused = steps && decode::picked(rec.gpu().caps(), p.cache);
    let one_step = fused.then(|| decode::Shape {
        heads: c.heads(),
        cache: p.cache,
        rotation: c.rotation(),
        eps: c.eps(),
        window: 0,
        scale: shape.scale,
        split: decode::SplitConfig::tuned(
            rec.gpu().caps(),
            [c.heads(), c.kv_heads(), c.head_dim()],
            p.cache.ty,
            positions,
            tokens,
        ),
        positions: positions.min(p.cache.context),
        tokens,
        sequences,
    });
    let tap = |rec: &mut Recorder, i: usize, from: &Slice| {
        if let Output::Taps(buffers) = output {
            rec.copy(from, &buffers[i]);
        }
    };

    // The integers of x, `[n, cols]`, if one of the weights it meets is multiplied in integers.
    let integers = |rec: &mut Recorder, weights: &[&Weight], x: &Slice, n: u32, cols: u32| {
        let caps = rec.gpu().caps();
        let picks = |v| weights.iter().any(|w| Variant::pick(caps, w.shape.ty, n) == v);
        let (few, many) = (picks(Variant::MatvecDot), picks(Variant::TiledDot));
        if !few && !many {
            return Ok(None);
        }
        let (q, meta) = quantize::bytes(u64::from(n) * u64::from(cols));
        let out = Quantized { q: at(b.ints_q).range(0, q), meta: at(b.ints_meta).range(0, meta) };
        if few {
            quantize(rec, x, &out, n * cols)?
        } else {
            quantize8(rec, x, &out, n * cols)?
        }
        Ok::<_, weft_kernels::Error>(Some(out))
    };

    // What the input of these weights is written in: f16 where all of them, adapters included, would round
    // it to that.
    let format = |rec: &Recorder, layer: usize, targets: &[Target], weights: &[&Weight]| {
        let caps = rec.gpu().caps();
        let mut adapters = p.lora.iter().flat_map(|(l, _)| l.inputs(layer as u32, targets));
        let rounds = |w: &Weight| Variant::pick(caps, w.shape.ty, tokens) == Variant::Coop;
        match weights.iter().all(|w| rounds(w)) && adapters.all(rounds) {
            true => Format::F16,
            false => Format::F32,
        }
    };

    // The products of x, `[tokens, width]`, with matrices whose outputs lie side by side in y.
    let stacked = |rec: &mut Recorder, parts: &[Part], (x, format): (&Slice, Format), y: &Slice| {
        let weights: Vec<&Weight> = parts.iter().map(|p| &p.weight).collect();
        let ints = integers(rec, &weights, x, tokens, c.width)?;
        let stride = weights.iter().map(|w| w.shape.rows).sum();
        let mut column = 0;
        for part in parts {
            let input = Input { x, ints: ints.as_ref(), format };
            let epilogue = Epilogue {
                bias: part.bias.as_ref(),
                scratch: shared.as_ref(),
                specialised,
                ..Epilogue::default()
            };
            linear(rec, &part.weight, input, (y, Columns { stride, column }), tokens, epilogue)?;
            column += part.weight.shape.rows;
        }
        Ok::<_, weft_kernels::Error>(())
    };

    // What adapters add behind the products of x with a layer's matrices; x is also what is observed.
    let adapted = |rec: &mut Recorder, layer: usize, targets: &[Target], x: Input<'_>, y: &Slice| {
        if let Output::Sums(sums) = output {
            let (target, input) = (targets[0], (x.x, x.format));
            accumulate(rec, input, &sums.layers[layer][target.group() as usize], tokens, target.inputs(c))?;
        }
        match p.lora {
            Some((lora, between)) => lora.add(rec, layer as u32, targets, x, y, between, (c, tokens)),
            None => Ok(()),
        }
    };

    let qkv_targets = [Target::Q, Target::K, Target::V];
    let gate_up_targets = [Target::Gate, Target::Up];
    let stacked_format = |rec: &Recorder, i: usize, targets: &[Target], parts: &[Part]| {
        let weights: Vec<&Weight> = parts.iter().map(|p| &p.weight).collect();
        format(rec, i, targets, &weights)
    };
    // A residual product of streams leaves the norm behind it in n, and of the last layer in last. An adapter
    // would come between the two.
    let normed_before = specialised && p.lora.is_none() && !matches!(output, Output::Sums(_));
    let normed = |rec: &mut Recorder,
                  norm: Option<&Slice>,
                  i: usize,
                  targets: &[Target],
                  parts: &[Part],
                  y: &Slice| {
        let format = stacked_format(rec, i, targets, parts);
        if let Some(norm) = norm {
            rmsnorm_to(rec, &x, norm, (&n, format), tokens, c.width, c.eps())?;
        }
        stacked(rec, parts, (&n, format), y)?;
        adapted(rec, i, targets, Input { x: &n, ints: None, format }, y)
    };

    let (last, logits) = (at(b.last), at(b.logits));
    let head = w.head.as_ref().unwrap_or(&w.embedding);
    Embed::new(&w.embedding, p.ids, &x, tokens).record(rec)?;
    tap(rec, 0, &x);
    let observed = p.lora.is_some() || matches!(output, Output::Sums(_));
    if tokens == 1 && p.integers && !observed && chains(rec.gpu().caps(), w) {
        let ints = |i: usize| Quantized { q: at(b.chain[i].0), meta: at(b.chain[i].1) };
        let (stream, attended_ints, gated) = (ints(0), ints(1), ints(2));
        let from_stream = chain::Input { ints: &stream, norm: Some(c.eps()) };
        let (qkv, attended) = (at(b.qkv), at(b.attended));
        for (i, l) in w.layers.iter().enumerate() {
            if i == 0 {
                quantize::normed(rec, &x, &l.attn_norm, &stream, c.width)?;
            }
            let stride = l.qkv.iter().map(|p| p.weight.shape.rows).sum();
            let at_once = match &l.qkv[..] {
                [Part { weight: a, bias: None }, Part { weight: b, bias: None }] => {
                    chained_mixed(rec, [a, b], from_stream, &qkv, stride)?
                }
                _ => false,
            };
            let mut column = 0;
            for part in l.qkv.iter().filter(|_| !at_once) {
                let bias = part.bias.as_ref();
                let end = ChainOutput::Rows { y: &qkv, columns: Columns { stride, column }, bias };
                chained(rec, &part.weight, from_stream, end)?;
                column += part.weight.shape.rows;
            }
            let norms = l.qk_norm.as_ref();
            if let Some(one) = &one_step {
                let (kv, ints) = (&p.kv[i][0], Some(&attended_ints));
                decode::decode(rec, p.state, p.table, norms, &qkv, kv, &scratch, &attended, ints, one)?;
            } else {
                let q = at(b.q);
                qk_norm_rope(rec, p.state, p.table, norms, &qkv, &q, &p.kv[i], &between)?;
                attention(rec, p.state, &q, p.cache, &p.kv[i], &scratch, &attended, &shape)?;
                quantize(rec, &attended, &attended_ints, c.heads() * c.head_dim())?;
            }
            let end = ChainOutput::Residual { h: &x, norm: &l.ffn_norm, out: &stream };
            chained(rec, &l.output, chain::Input { ints: &attended_ints, norm: None }, end)?;
            chained(rec, &l.gate_up[0].weight, from_stream, ChainOutput::SwiGlu { out: &gated })?;
            let next = w.layers.get(i + 1).map_or(&w.output_norm, |l| &l.attn_norm);
            let end = ChainOutput::Residual { h: &x, norm: next, out: &stream };
            chained(rec, &l.down, chain::Input { ints: &gated, norm: None }, end)?;
            tap(rec, i + 1, &x);
        }
        if matches!(output, Output::Cache) {
            return Ok(logits);
        }
        let columns = Columns::all(c.vocabulary);
        let in_integers = chain::supports(rec.gpu().caps(), &head.shape, ChainEpilogue::Rows).is_ok();
        if !in_integers || matches!(output, Output::Taps(_)) {
            rmsnorm(rec, &x, &w.output_norm, &last, 1, c.width, c.eps())?;
            tap(rec, w.layers.len() + 1, &last);
        }
        match in_integers {
            true => chained(rec, head, from_stream, ChainOutput::Rows { y: &logits, columns, bias: None })?,
            false => linear(rec, head, Input::f32(&last), (&logits, columns), 1, Epilogue::default())?,
        }
        if matches!(output, Output::Token) {
            sample(rec, p.state, &logits, &at(b.maxima), p.ids, p.history, c.vocabulary, 1, 1)?;
        }
        return Ok(logits);
    }
    for (i, l) in w.layers.iter().enumerate() {
        let qkv = at(b.qkv);
        let norm = (i == 0 || !normed_before).then_some(&l.attn_norm);
        normed(rec, norm, i, &qkv_targets, &l.qkv, &qkv)?;
        let q = at(b.q);
        let (norms, attended) = (l.qk_norm.as_ref(), at(b.attended));
        match &one_step {
            Some(s) => {
                decode::decode(
                    rec,
                    p.state,
                    p.table,
                    norms,
                    &qkv,
                    &p.kv[i][0],
                    &scratch,
                    &attended,
                    None,
                    s,
                )?;
            }
            None => {
                qk_norm_rope(rec, p.state, p.table, norms, &qkv, &q, &p.kv[i], &between)?;
                attention(rec, p.state, &q, p.cache, &p.kv[i], &scratch, &attended, &shape)?;
            }
        }
        let residual = Epilogue { add: true, scratch: shared.as_ref(), specialised, ..Epilogue::default() };
        let ints = integers(rec, &[&l.output], &attended, tokens, c.heads() * c.head_dim())?;
        let input = Input { ints: ints.as_ref(), ..Input::f32(&attended) };
        let format_up = stacked_format(rec, i, &gate_up_targets, &l.gate_up);
        let norm = Norm { w: &l.ffn_norm, eps: c.eps(), to: (&n, format_up) };
        let epilogue = Epilogue { norm: normed_before.then_some(norm), ..residual };
        linear(rec, &l.output, input, (&x, Columns::all(c.width)), tokens, epilogue)?;
        adapted(rec, i, &[Target::O], Input::f32(&attended), &x)?;

        let (gate_up, gated) = (at(b.gate_up), at(b.gated));
        let norm = (!normed_before).then_some(&l.ffn_norm);
        normed(rec, norm, i, &gate_up_targets, &l.gate_up, &gate_up)?;
        let format = format(rec, i, &[Target::Down], &[&l.down]);
        let act = Activation::Silu;
        Glu { x: &gate_up, y: &gated, out: format, act, tokens, width: c.feed_forward() }.record(rec)?;
        let ints = integers(rec, &[&l.down], &gated, tokens, c.feed_forward())?;
        let input = Input { x: &gated, ints: ints.as_ref(), format };
        let (w_norm, to) = match w.layers.get(i + 1) {
            Some(l) => (&l.attn_norm, (&n, stacked_format(rec, i + 1, &qkv_targets, &l.qkv))),
            None => (&w.output_norm, (&last, Format::F32)),
        };
        let norm = Norm { w: w_norm, eps: c.eps(), to };
        let epilogue = Epilogue { norm: normed_before.then_some(norm), ..residual };
        linear(rec, &l.down, input, (&x, Columns::all(c.width)), tokens, epilogue)?;
        adapted(rec, i, &[Target::Down], Input { ints: None, ..input }, &x)?;
        tap(rec, i + 1, &x);
    }

    match output {
        Output::Cache | Output::Sums(Sums { head: None, .. }) => {}
        Output::Sums(Sums { head: Some(sums), .. }) => {
            rmsnorm(rec, &x, &w.output_norm, &n, tokens, c.width, c.eps())?;
            accumulate(rec, (&n, Format::F32), sums, tokens, c.width)?;
        }
        Output::Logits | Output::Taps(_) => {
            rmsnorm(rec, &x, &w.output_norm, &last, tokens, c.width, c.eps())?;
            tap(rec, w.layers.len() + 1, &last);
            let ints = integers(rec, &[head], &last, tokens, c.width)?;
            let input = Input { ints: ints.as_ref(), ..Input::f32(&last) };
            linear(rec, head, input, (&logits, Columns::all(c.vocabulary)), tokens, Epilogue::default())?;
        }
        Output::Token => {
            let row = u64::from(c.width) * 4;
            let mut final_x = x.clone();
            // Streams have a last token each; of one sequence it is the batch's.
            let (streams, each) = if sequences == Sequences::One { (1, tokens) } else { (tokens, 1) };
            if each > 1 {
                rec.copy(&x.range(u64::from(tokens - 1) * row, row), p.last_x);
                final_x = p.last_x.clone();
            }
            if !normed_before {
                rmsnorm(rec, &final_x, &w.output_norm, &last, streams, c.width, c.eps())?;
            }
            let ints = integers(rec, &[head], &last, streams, c.width)?;
            let input = Input { ints: ints.as_ref(), ..Input::f32(&last) };
            let epilogue = Epilogue { specialised, ..Epilogue::default() };
            linear(rec, head, input, (&logits, Columns::all(c.vocabulary)), streams, epilogue)?;
            sample(rec, p.state, &logits, &at(b.maxima), p.ids, p.history, c.vocabulary, streams, each)?;
        }
    }
    Ok(logits)
}

/// The largest batch of at most `wanted` tokens whose activations fit the budget: each tensor in a
/// binding, all of them in a buffer, and no product takes too long.
pub(crate) fn fitting_chunk(
    c: &Spec,
    cache: &CacheShape,
    wanted: u32,
    all_logits: bool,
    budget: &Budget,
) -> u32 {
    let mut tokens = wanted.max(1);
    while tokens > 1 {
        let bytes = Buffers::most(c, cache, Job { all_logits, ..Job::one(tokens) }, budget);
        let logits = if all_logits { u64::from(tokens) * u64::from(c.vocabulary) * 4 } else { 0 };
        let sequences = Sequences::One;
        let shape = Shape { tokens, heads: c.heads(), window: 0, scale: 1.0, splits: 1, sequences };
        let widest = logits.max(shape.scratch_bytes(cache).0);
        let q = (c.heads() + 2 * c.kv_heads()) * c.head_dim();
        let rows = q.max(2 * c.feed_forward()).max(if all_logits { c.vocabulary } else { 0 });
        let flops = 2.0 * f64::from(tokens) * f64::from(rows) * f64::from(c.width);
        let fits = bytes <= budget.max_buffer && widest <= budget.max_binding;
        if fits && flops <= budget.dispatch_flops {
            break;
        }
        tokens = tokens.div_ceil(2);
    }
    tokens
}
