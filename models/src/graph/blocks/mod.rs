//! The order of operations, block by block, forward and backward side by side.
//!
//! Backwards, dx is the gradient of what a half gives and then of what it reads: the residual stream's gradient stays in
//! one value, to which each half adds its own.

mod attention;
mod experts;
mod ffn;
mod halves;
mod learning;

pub(super) use learning::{Sections, training};

use super::build::Builder;
use super::building::Build;
use super::node::{Node, Value};
use super::pass::Want;
use crate::sites::{NormSite, Site};
use weft_kernels::ops::attention::Sequences;

/// A whole model. Returns its logits, if there are any.
pub(super) fn model(b: &mut Builder<'_>) -> Option<Value> {
    let mut x = embed(b);
    tap(b, x, 0);
    for layer in 0..b.f.spec.layers() {
        x = attention::forward(b, layer, x).left.out;
        x = ffn::forward(b, layer, x).left.out;
        tap(b, x, layer as usize + 1);
    }
    output(b, x)
}

/// The residual stream before the first layer.
fn embed(b: &mut dyn Build) -> Value {
    let out = b.tokens(b.spec().width);
    b.push(Node::Embed { out });
    if b.spec().embed.norm.is_some() { b.norm(out, NormSite::Embedding) } else { out }
}

/// What follows the last layer.
fn output(b: &mut Builder<'_>, x: Value) -> Option<Value> {
    match b.pass.want {
        Want::Cache | Want::Sums { head: false } => None,
        Want::Sums { head: true } => {
            let x = b.norm(x, NormSite::Output);
            b.push(Node::Observe { x, site: Site::Head, experts: None });
            None
        }
        Want::Logits | Want::Taps => {
            let last = b.norm(x, NormSite::Output);
            tap(b, last, b.f.spec.blocks.len() + 1);
            Some(b.head(last))
        }
        Want::Chosen(rows) => {
            let chosen = b.rows(rows, b.f.spec.width);
            b.push(Node::TakeRows { x, out: chosen });
            let last = b.norm(chosen, NormSite::Output);
            Some(b.head(last))
        }
        Want::Vectors(v) => {
            let last = if b.f.spec.out.norm.is_some() { b.norm(x, NormSite::Output) } else { x };
            let out = b.rows(v.sequences, b.f.spec.width);
            b.push(Node::Pool { x: last, out, pooling: v.pooling });
            if v.normalised {
                b.push(Node::Normalize { x: out });
            }
            Some(out)
        }
        Want::Token => {
            // Slots have a last token each; of one sequence it is the batch's.
            let many = b.pass.sequences == Sequences::One && b.pass.tokens > 1;
            let x = if many { b.last_row(x) } else { x };
            let last = b.norm(x, NormSite::Output);
            let logits = b.head(last);
            b.sample(logits);
            Some(logits)
        }
    }
}

fn tap(b: &mut Builder<'_>, x: Value, index: usize) {
    if b.pass.taps() {
        b.push(Node::Tap { x, index });
    }
}
