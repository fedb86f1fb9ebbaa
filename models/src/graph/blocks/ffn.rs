//! Feed-forward networks: `x += (act(n Wgate) * (n Wup)) Wdown` with `n = norm(x)`, with norms where the block has them;
//! `act(n Wup)` alone where there is no gate.

use super::super::building::Build;
use super::super::learner::{Laid, Learner};
use super::super::node::Value;
use super::super::step::Step;
use super::experts;
use super::halves::{Left, behind, enter, leave};
use crate::sites::{Group, NormSite, Site};
use crate::spec::Ffn as Kind;
use weft_kernels::ops::Format;

/// What a feed-forward network made, as far as the backward pass reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ffn {
    pub(super) x: Value,
    /// Gate and up, where they are kept.
    kept: Option<Value>,
    pub(super) left: Left,
}

/// From the residual stream before the half to that behind it.
pub(super) fn forward(b: &mut dyn Build, layer: u32, x: Value) -> Ffn {
    if let Kind::Experts(e) = b.block(layer).ffn {
        return Ffn { x, kept: None, left: experts::forward(b, layer, x, &e) };
    }
    let n = enter(b, layer, x, NormSite::Ffn(layer));
    let gate_up = b.product(n, Site::Layer(layer, Group::GateUp));
    let kept = b.keep(layer, gate_up);
    let gated = match b.block(layer).ffn {
        Kind::Plain { .. } => b.activate(layer, gate_up),
        Kind::Gated { .. } | Kind::Experts(_) => b.glu(layer, gate_up),
    };
    let left = leave(b, layer, (gated, Group::Down), x, NormSite::AfterFfn(layer));
    Ffn { x, kept, left }
}

/// From dx, the gradient of the residual stream behind the half, to that of the stream before it in the same place, and
/// to those of its adapters. Returns whether anything before it is trained.
pub(super) fn backward(b: &mut Learner<'_>, layer: u32, s: &Ffn, dx: Value) -> bool {
    let [gate_up, down] = [Group::GateUp, Group::Down].map(|g| Site::Layer(layer, g));
    let norm = NormSite::Ffn(layer);
    let dn = if let Kind::Experts(e) = b.block(layer).ffn {
        experts::backward(b, layer, s.x, &e, dx)
    } else {
        let (n, made) = match s.kept {
            Some(kept) => {
                let n = b.is_adapted(gate_up).then(|| b.norm(s.x, norm));
                let wide = b.info(kept).format == Format::F32;
                (n, if wide { kept } else { b.cast(kept, Format::F32) })
            }
            None => {
                let n = b.norm(s.x, norm);
                (Some(n), b.product(n, gate_up))
            }
        };
        let dy = behind(b, s.left, NormSite::AfterFfn(layer), dx);
        let dy = b.laid(down, dy);
        let (dt, dgated) = b.input_gradient(down, dy);
        let tiles = dgated.and_then(|_| b.tiles(gate_up, made));
        let gated = match dgated {
            Some(dy) => {
                b.learn(Step::GluGradient { layer, x: made, dy, tiles });
                dy
            }
            None => b.glu(layer, made),
        };
        if s.kept.is_none() {
            b.down(down, gated);
        }
        b.adapter_gradient(down, dy, gated, dt);
        // What was made is its gradient by now, or the tiles are.
        dgated.and_then(|_| b.product_gradient(gate_up, Laid { dy: made, tiles }, n))
    };
    if let Some(dn) = dn {
        b.add_norm_gradient(s.x, norm, dn, dx);
    }
    dn.is_some()
}

impl Ffn {
    /// The same of another x with the same values.
    pub(super) fn at(self, x: Value) -> Ffn {
        Ffn { x, ..self }
    }
}
