//! Feed-forward networks: `x += (act(n Wgate) * (n Wup)) Wdown` with `n = norm(x)`, with norms where the block has them;
//! `act(n Wup)` alone where there is no gate.

use super::super::build::Builder;
use super::super::node::Value;
use super::experts;
use super::halves::{enter, leave};
use crate::sites::{Group, NormSite, Site};
use crate::spec::Ffn;

/// From the residual stream before the half to that behind it.
pub(super) fn forward(b: &mut Builder<'_>, layer: u32, x: Value) -> Value {
    if let Ffn::Experts(e) = &b.block(layer).ffn {
        return experts::forward(b, layer, x, e);
    }
    let n = enter(b, layer, x, NormSite::Ffn(layer));
    let gate_up = b.product(n, Site::Layer(layer, Group::GateUp));
    let gated = match b.block(layer).ffn {
        Ffn::Plain { .. } => b.activate(layer, gate_up),
        Ffn::Gated { .. } | Ffn::Experts(_) => b.glu(layer, gate_up),
    };
    leave(b, layer, (gated, Group::Down), x, NormSite::AfterFfn(layer))
}
