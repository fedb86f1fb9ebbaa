//! Mixtures of experts: `x += sum_j w_j h_j D_j`, `h_j = act(n Gate_j) * (n Up_j)`, over the experts j that a router
//! chooses for each token, with `n = norm(x)`, and norms where the block has them.
//!
//! With G the gradient of a token's output:
//! ```text
//! g_j = G D_j^T      dw_j = g_j . h_j      dh_j = w_j g_j       through the experts that were chosen
//! dn  = sum_j d(gate, up)_j (Gate, Up)_j^T + dlogits Wr^T       dlogits from dw through the softmax
//! ```
//! Which experts are chosen has no gradient.

use weft_kernels::ops::experts::Left as Rows;

use super::super::building::Build;
use super::super::learner::Learner;
use super::super::node::{Node, Routes, Value};
use super::super::step::Step;
use super::halves::{Left, enter};
use crate::sites::{Group, NormSite, Site};
use crate::spec::{Experts, Norms};

/// What the router and the first products of experts make.
struct Chosen {
    logits: Value,
    routes: Routes,
    gate_up: Value,
}

fn choose(b: &mut dyn Build, layer: u32, x: Value, e: &Experts) -> Chosen {
    let n = enter(b, layer, x, NormSite::Ffn(layer));
    let (logits, routes) = b.route(layer, n, e);
    let gate_up = b.expert_product(n, Rows::Tokens, Group::GateUp, routes);
    Chosen { logits, routes, gate_up }
}

/// From the residual stream before the half to that behind it.
pub(super) fn forward(b: &mut dyn Build, layer: u32, x: Value, e: &Experts) -> Left {
    let Chosen { routes, gate_up, .. } = choose(b, layer, x, e);
    let gated = b.glu(layer, gate_up);
    let y = b.expert_product(gated, Rows::Positions, Group::Down, routes);
    let behind = NormSite::AfterFfn(layer);
    Left::sum(match b.block(layer).norms {
        Norms::Pre => b.add_combined(y, routes, x),
        Norms::Post => {
            let sum = b.add_combined(y, routes, x);
            b.norm(sum, behind)
        }
        Norms::Sandwich => {
            let into = b.tokens(b.spec().width);
            b.push(Node::Combine { y, routes, into, add: false });
            b.add_norm(into, behind, x)
        }
    })
}

/// From dx, the gradient of the residual stream behind the half, to that of n, which experts and router read, if
/// anything before them is trained.
pub(super) fn backward(b: &mut Learner<'_>, layer: u32, x: Value, e: &Experts, dx: Value) -> Option<Value> {
    let [gate_up, down] = [Group::GateUp, Group::Down].map(|g| Site::Layer(layer, g));
    if !b.is_needed(gate_up) {
        return None;
    }
    // Gate and up are never kept: they are a token's as many times as it has experts.
    let Chosen { logits, routes, gate_up: made } = choose(b, layer, x, e);
    let h = b.glu(layer, made);
    let g = b.like(h);
    b.learn(Step::ExpertGradient { site: down, dy: dx, left: Rows::Tokens, routes, dx: g });
    let dweights = b.like(routes.weights);
    b.learn(Step::Weigh { h, g, routes, dweights });
    // Here g has become the gradient of h, and the gradient of what was made takes its place.
    b.learn(Step::GluGradient { layer, x: made, dy: g, tiles: None });
    let choices = b.rows(b.info(h).rows, b.spec().width);
    b.learn(Step::ExpertGradient { site: gate_up, dy: made, left: Rows::Positions, routes, dx: choices });
    let dn = b.tokens(b.spec().width);
    b.learn(Step::Gather { y: choices, routes, into: dn });
    let dlogits = b.like(logits);
    b.learn(Step::RouteGradient { logits, routes, dweights, dlogits });
    b.add_router_gradient(layer, dlogits, dn);
    Some(dn)
}
