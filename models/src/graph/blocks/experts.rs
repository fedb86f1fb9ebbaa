//! Mixtures of experts: `x += sum_j w_j (act(n Wgate_j) * (n Wup_j)) Wdown_j` over the experts j that a router chooses for
//! each token, with `n = norm(x)`, and norms where the block has them.

use weft_kernels::ops::experts::Left;

use super::super::build::Builder;
use super::super::node::{Node, Value};
use super::halves::enter;
use crate::sites::{Group, NormSite, Site};
use crate::spec::{Experts, Norms};

/// From the residual stream before the half to that behind it.
pub(super) fn forward(b: &mut Builder<'_>, layer: u32, x: Value, e: &Experts) -> Value {
    let n = enter(b, layer, x, NormSite::Ffn(layer));
    let routes = b.route(layer, n, e);
    let gate_up = b.expert_product(n, Left::Tokens, Site::Layer(layer, Group::GateUp), routes);
    let gated = b.glu(layer, gate_up);
    let y = b.expert_product(gated, Left::Positions, Site::Layer(layer, Group::Down), routes);
    let behind = NormSite::AfterFfn(layer);
    match b.block(layer).norms {
        Norms::Pre => {
            b.push(Node::Combine { y, routes, into: x, add: true });
            x
        }
        Norms::Post => {
            b.push(Node::Combine { y, routes, into: x, add: true });
            b.norm(x, behind)
        }
        Norms::Sandwich => {
            let sum = b.tokens(b.f.spec.width);
            b.push(Node::Combine { y, routes, into: sum, add: false });
            b.push(Node::AddNorm { x: sum, norm: behind, into: x });
            x
        }
    }
}
