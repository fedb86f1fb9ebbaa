//! A whole model while adapters are trained: forward, loss and backward.
//!
//! The loss is the sum of -ln p(label), so that gradients are about as large as those of one token, whatever the batch;
//! AdamW multiplies by one over the tokens.

use std::ops::Range;

use super::super::building::Build;
use super::super::learner::{Kept, Learner};
use super::super::node::Value;
use super::super::step::Step;
use super::attention::{self, Attention};
use super::embed;
use super::ffn::{self, Ffn};
use crate::sites::{NormSite, Site};

/// Where the parts of training begin among the steps.
#[derive(Debug, Clone)]
pub(crate) struct Sections {
    /// One past the steps of layers forward.
    pub(crate) layers: usize,
    /// The loss of some rows, which runs as often as there are rows.
    pub(crate) loss: usize,
    /// Its gradient.
    pub(crate) gradient: usize,
    /// The backward pass.
    pub(crate) backward: usize,
    /// The forward pass of each layer.
    forwards: Vec<usize>,
    /// The backward pass of each layer.
    each: Vec<usize>,
    /// What the loss tells of each row.
    pub(crate) stats: Value,
}

impl Sections {
    /// The steps of each layer's forward pass, the first with what is before it and the last with what is behind.
    pub(crate) fn each_forward(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = std::iter::once(0).chain(self.forwards.iter().copied().skip(1));
        let ends = self.forwards.iter().copied().skip(1).chain(std::iter::once(self.loss));
        starts.zip(ends).map(|(start, end)| start..end)
    }

    /// The steps of each layer's backward pass, of `steps` in all.
    pub(crate) fn each_backward(&self, steps: usize) -> impl Iterator<Item = Range<usize>> {
        let ends = self.each.iter().copied().skip(1).chain(std::iter::once(steps));
        self.each.iter().copied().zip(ends).map(|(start, end)| start..end)
    }
}

/// A whole model.
pub(crate) fn training(b: &mut Learner<'_>) -> Sections {
    let mut x = embed(b);
    let (mut made, mut forwards) = (Vec::new(), Vec::new());
    for layer in 0..b.spec().layers() {
        forwards.push(b.steps.len());
        let attention = attention::forward(b, layer, x);
        let ffn = ffn::forward(b, layer, attention.left.out);
        x = ffn.left.out;
        made.push((attention, ffn));
    }
    let layers = b.steps.len();
    let dx = b.like(x);
    b.learn(Step::Clear { x: dx });
    let loss = b.program();
    let (gradient, stats) = losses(b, x, dx);
    let backward = b.program();
    let mut each = Vec::new();
    for (layer, (attention, ffn)) in made.iter().enumerate().rev() {
        let layer = layer as u32;
        if layer >= b.lesson.first.0 {
            each.push(b.steps.len());
            backward_of(b, layer, attention, ffn, dx);
        }
    }
    Sections { layers, loss, gradient, backward, forwards, each, stats }
}

/// The loss of some rows of x, and their gradient, added to dx. Returns where that begins, and what the loss tells.
fn losses(b: &mut Learner<'_>, x: Value, dx: Value) -> (usize, Value) {
    let rows = b.lesson.rows;
    let taken = b.rows(rows, b.spec().width);
    b.learn(Step::TakeRows { x, out: taken });
    let n = b.norm(taken, NormSite::Output);
    let logits = b.product(n, Site::Head);
    let stats = b.rows(rows, 4);
    b.learn(Step::Loss { logits, stats });
    let gradient = b.steps.len();
    // What held the logits holds their gradient here.
    let dlogits = b.laid(Site::Head, logits);
    if let Some(dn) = b.product_gradient(Site::Head, dlogits, None) {
        let dtaken = b.norm_gradient(taken, NormSite::Output, dn);
        b.learn(Step::PutRows { x: dtaken, into: dx });
    }
    (gradient, stats)
}

/// A layer backwards, from what its halves made, or from what they read where nothing else is kept.
fn backward_of(b: &mut Learner<'_>, layer: u32, attention: &Attention, ffn: &Ffn, dx: Value) {
    let attention = match b.kept(layer) {
        Kept::Input => attention::forward(b, layer, attention.x),
        Kept::Halves | Kept::Whole => *attention,
    };
    if ffn::backward(b, layer, &ffn.at(attention.left.out), dx) {
        attention::backward(b, layer, &attention, dx);
    }
}
