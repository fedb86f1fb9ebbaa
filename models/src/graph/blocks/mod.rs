//! The order of operations, block by block.

mod attention;
mod experts;
mod ffn;
mod halves;

use super::build::Builder;
use super::node::{Node, Value};
use super::pass::Want;
use crate::sites::{NormSite, Site};
use weft_kernels::ops::attention::Sequences;

/// A whole model. Returns its logits, if there are any.
pub(super) fn model(b: &mut Builder<'_>) -> Option<Value> {
    let spec = b.f.spec;
    let mut x = b.tokens(spec.width);
    b.push(Node::Embed { out: x });
    if spec.embed.norm.is_some() {
        x = b.norm(x, NormSite::Embedding);
    }
    tap(b, x, 0);
    for layer in 0..spec.layers() {
        x = attention::forward(b, layer, x);
        x = ffn::forward(b, layer, x);
        tap(b, x, layer as usize + 1);
    }
    output(b, x)
}

/// What follows the last layer.
fn output(b: &mut Builder<'_>, x: Value) -> Option<Value> {
    match b.pass.want {
        Want::Cache | Want::Sums { head: false } => None,
        Want::Sums { head: true } => {
            let x = b.norm(x, NormSite::Output);
            b.push(Node::Observe { x, site: Site::Head });
            None
        }
        Want::Logits | Want::Taps => {
            let last = b.norm(x, NormSite::Output);
            tap(b, last, b.f.spec.blocks.len() + 1);
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
