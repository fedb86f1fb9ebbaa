//! Attention: `x += attend(rope(norm(x) Wqkv)) Wo`, with norms where the block has them.

use super::super::building::{Attended, Build};
use super::super::learner::Learner;
use super::super::node::Value;
use super::super::step::Step;
use super::halves::{Left, behind, enter, leave};
use crate::sites::{Group, NormSite, Site};

/// What attention made, as far as the backward pass reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) x: Value,
    qkv: Value,
    attended: Attended,
    pub(super) left: Left,
}

/// From the residual stream before the half to that behind it.
pub(super) fn forward(b: &mut dyn Build, layer: u32, x: Value) -> Attention {
    let n = enter(b, layer, x, NormSite::Attention(layer));
    let qkv = b.product(n, Site::Layer(layer, Group::Qkv));
    let attended = b.attend(layer, qkv);
    let left = leave(b, layer, (attended.out, Group::Output), x, NormSite::AfterAttention(layer));
    Attention { x, qkv, attended, left }
}

/// From dx, the gradient of the residual stream behind the half, to that of the stream before it in the same place, and
/// to those of its adapters; no further than anything is trained.
pub(super) fn backward(b: &mut Learner<'_>, layer: u32, s: &Attention, dx: Value) {
    let [output, qkv] = [Group::Output, Group::Qkv].map(|g| Site::Layer(layer, g));
    let dy = behind(b, s.left, NormSite::AfterAttention(layer), dx);
    let dy = b.laid(output, dy);
    let Some(dout) = b.product_gradient(output, dy, Some(s.attended.out)) else { return };
    // Queries, keys and values are cheaper to compute once more than to keep, and so is the norm.
    let split = b.heads(layer, s.qkv);
    let dsplit = split.map(|v| b.like(v));
    let scratch = b.attention_scratch(layer);
    let Attended { out, lse } = s.attended;
    b.learn(Step::AttendGradient { layer, split, out, lse, dout, scratch, dsplit });
    let dqkv = b.like(s.qkv);
    b.learn(Step::HeadsGradient { layer, qkv: s.qkv, dsplit, dqkv });
    let n = b.is_adapted(qkv).then(|| b.norm(s.x, NormSite::Attention(layer)));
    let dqkv = b.laid(qkv, dqkv);
    if let Some(dn) = b.product_gradient(qkv, dqkv, n) {
        b.add_norm_gradient(s.x, NormSite::Attention(layer), dn, dx);
    }
}
