//! Nodes that a device does in one dispatch, found by matching. What matches nothing stays as it was built.

use weft_kernels::WeightShape;
use weft_kernels::ops::matmul::chain::{self, ChainEpilogue};
use weft_kernels::ops::quantize;
use weft_kernels::select::CHAIN_TOKENS;

use super::node::{ChainTo, Info, Ints, Node, Value};
use super::pass::{Frame, Pass, Want};
use crate::sites::{Group, NormSite, Site};
use crate::spec::{Act, Ffn, Norm};

pub(super) fn fuse(f: &Frame<'_>, pass: Pass, nodes: Vec<Node>, values: &mut Vec<Info>) -> Vec<Node> {
    let nodes = one_attention(f, pass, nodes);
    if pass.is_packed() {
        return nodes;
    }
    // An adapter, or whoever observes, would come between a product and what is fused with it.
    let alone = f.lora.is_none() && !matches!(pass.want, Want::Sums { .. });
    if !alone {
        return nodes;
    }
    if pass.steps()
        && pass.tokens <= CHAIN_TOKENS
        && f.integers
        && let Some(nodes) = chained(f, pass.tokens, &nodes, values)
    {
        return nodes;
    }
    if pass.rows() { sums_with_norms(f, nodes) } else { nodes }
}

/// Attention of one token of each sequence, with what comes before it.
fn one_attention(f: &Frame<'_>, pass: Pass, nodes: Vec<Node>) -> Vec<Node> {
    let mut out: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match (out.last(), node) {
            (Some(&Node::Rope { layer, qkv, .. }), Node::Attend { out: to, scratch, .. })
                if f.decodes(pass, layer) =>
            {
                // Rows that see what others write come behind all of the writing; their own they write once more.
                if !pass.shared {
                    out.pop();
                }
                out.push(Node::AttendOne { layer, qkv, out: to, ints: None, scratch });
            }
            (_, node) => out.push(node),
        }
    }
    out
}

/// A residual product of slots with the norm behind it.
fn sums_with_norms(f: &Frame<'_>, nodes: Vec<Node>) -> Vec<Node> {
    let mut all: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match (all.last_mut(), node) {
            (Some(Node::Product { out: sum, add: true, norm, .. }), Node::Norm { x, norm: site, out })
                if *sum == x && norm.is_none() && rms(f, site) =>
            {
                *norm = Some((site, out));
            }
            (_, node) => all.push(node),
        }
    }
    all
}

fn rms(f: &Frame<'_>, site: NormSite) -> bool {
    matches!(f.spec.norm(site), Some(Norm::Rms { .. }))
}

/// A step of a few rows as products of integers that hand each other what the next one reads; `None` where some layer
/// does not match.
fn chained(f: &Frame<'_>, rows: u32, nodes: &[Node], values: &mut Vec<Info>) -> Option<Vec<Node>> {
    let can = |w: &WeightShape, e| chain::supports(f.caps, w, e, rows).is_ok();
    let all = |site, e| f.weights.shapes(site).all(|w| can(w, e));
    let single = |site| f.weights.shapes(site).count() == 1;
    let plain = |site| single(site) && !f.weights.biased(site);
    let c = Chain::new(f, rows, values);
    let mut rest = nodes;
    let mut started = false;
    let mut out = Vec::new();
    loop {
        rest = match rest {
            [embed @ Node::Embed { .. }, rest @ ..] => {
                out.push(*embed);
                rest
            }
            [tap @ Node::Tap { .. }, rest @ ..] => {
                out.push(*tap);
                rest
            }
            [
                Node::Norm { x, norm, out: n },
                Node::Product { x: n_, site: qkv_site @ Site::Layer(_, Group::Qkv), out: qkv, .. },
                middle @ ..,
            ] if n == n_ && rms(f, *norm) => {
                if !started {
                    out.push(Node::Quantize { x: *x, norm: Some(*norm), out: c.stream });
                    started = true;
                }
                let (attend, middle) = attention(middle, *qkv, c.attended)?;
                let [
                    Node::Product { x: a, site: o_site, out: x1, add: true, .. },
                    Node::Norm { x: x2, norm: ffn_norm, out: n2 },
                    Node::Product { x: n3, site: up_site, out: gu, add: false, .. },
                    Node::Glu { x: gu_, out: gated, layer },
                    Node::Product { x: g, site: down_site, out: x3, add: true, .. },
                    after @ ..,
                ] = middle
                else {
                    return None;
                };
                let silu = matches!(f.spec.blocks[*layer as usize].ffn, Ffn::Gated { act: Act::Silu, .. });
                let flows = *a == attend.1 && [x1, x2, x3].iter().all(|v| **v == *x) && n2 == n3;
                let flows = flows && gu == gu_ && gated == g && silu && rms(f, *ffn_norm);
                let fits = all(*qkv_site, ChainEpilogue::Rows)
                    && plain(*o_site)
                    && all(*o_site, ChainEpilogue::Residual)
                    && plain(*up_site)
                    && all(*up_site, ChainEpilogue::SwiGlu)
                    && plain(*down_site)
                    && all(*down_site, ChainEpilogue::Residual);
                if !flows || !fits {
                    return None;
                }
                let next = after.iter().find_map(|n| match n {
                    Node::Norm { norm, .. } => Some(*norm),
                    _ => None,
                });
                let next = next.unwrap_or(NormSite::Output);
                let rows = ChainTo::Rows { out: *qkv };
                let first = ChainTo::Residual { into: *x, norm: *ffn_norm, out: c.stream };
                let second = ChainTo::Residual { into: *x, norm: next, out: c.stream };
                out.push(Node::Chain { site: *qkv_site, x: c.stream, normed: true, to: rows });
                out.extend(attend.0);
                out.push(Node::Chain { site: *o_site, x: c.attended, normed: false, to: first });
                let glu = ChainTo::Glu { out: c.gated };
                out.push(Node::Chain { site: *up_site, x: c.stream, normed: true, to: glu });
                out.push(Node::Chain { site: *down_site, x: c.gated, normed: false, to: second });
                after
            }
            [Node::Norm { x, norm: NormSite::Output, out: last }, after @ ..] if started => {
                out.extend(chained_head(f, rows, c.stream, (*x, *last), after)?);
                return Some(out);
            }
            [] => return started.then_some(out),
            _ => return None,
        };
    }
}

/// What follows the last layer of a chain: from the residual stream x, whose norm `last` would be, to the end.
fn chained_head(
    f: &Frame<'_>,
    rows: u32,
    stream: Ints,
    (x, last): (Value, Value),
    after: &[Node],
) -> Option<Vec<Node>> {
    let (taps, after) = after.split_at(after.iter().take_while(|n| tap(n)).count());
    let [Node::Product { site, out: logits, .. }, sample @ ..] = after else { return None };
    let mut out = Vec::new();
    let can = |w| chain::supports(f.caps, w, ChainEpilogue::Rows, rows).is_ok();
    let integers = f.weights.shapes(*site).all(can);
    if !integers || !taps.is_empty() {
        out.push(Node::Norm { x, norm: NormSite::Output, out: last });
        out.extend(taps);
    }
    let (site, logits) = (*site, *logits);
    out.push(match integers {
        true => Node::Chain { site, x: stream, normed: true, to: ChainTo::Rows { out: logits } },
        false => {
            let (ints, scratch, norm) = (None, None, None);
            Node::Product { x: last, site, out: logits, add: false, ints, scratch, norm }
        }
    });
    out.extend(sample);
    Some(out)
}

fn tap(node: &Node) -> bool {
    matches!(node, Node::Tap { .. })
}

/// The nodes of attention that reads qkv and leaves integers, with the value that they would leave as f32, and what
/// follows them.
fn attention(nodes: &[Node], qkv: Value, ints: Ints) -> Option<((Vec<Node>, Value), &[Node])> {
    match *nodes {
        [Node::AttendOne { layer, qkv: from, out, scratch, .. }, ref rest @ ..] if from == qkv => {
            let one = Node::AttendOne { layer, qkv, out, ints: Some(ints), scratch };
            Some(((vec![one], out), rest))
        }
        // Rows of one slot have their keys written before any of them is read.
        [rope @ Node::Rope { qkv: from, .. }, Node::AttendOne { layer, out, scratch, .. }, ref rest @ ..]
            if from == qkv =>
        {
            let one = Node::AttendOne { layer, qkv, out, ints: Some(ints), scratch };
            Some(((vec![rope, one], out), rest))
        }
        [rope @ Node::Rope { qkv: from, .. }, attend @ Node::Attend { out, .. }, ref rest @ ..]
            if from == qkv =>
        {
            let quantize = Node::Quantize { x: out, norm: None, out: ints };
            Some(((vec![rope, attend, quantize], out), rest))
        }
        _ => None,
    }
}

/// The integers of a chain: of the residual stream, of what attention gives, of the gated values.
struct Chain {
    stream: Ints,
    attended: Ints,
    gated: Ints,
}

impl Chain {
    fn new(f: &Frame<'_>, rows: u32, values: &mut Vec<Info>) -> Chain {
        let all = |each: u32| u64::from(rows) * u64::from(each);
        let mut ints = |(q, meta)| {
            let mut one = |bytes| {
                let format = weft_kernels::ops::Format::F32;
                values.push(Info { rows: 0, cols: 0, bytes, format, apart: false });
                Value(values.len() - 1)
            };
            Ints { q: one(q), meta: one(meta) }
        };
        Chain {
            stream: ints(quantize::bytes_normed(all(f.spec.width))),
            attended: ints(quantize::bytes(all(f.spec.attention().q_width()))),
            gated: ints(quantize::bytes(all(f.spec.feed_forward()))),
        }
    }
}
