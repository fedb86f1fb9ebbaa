//! The steps of training programs: those that answering has as well, and what only learning takes.
//!
//! `W'` is a matrix with its adapter, W + scale B A. A gradient has the name of what it is of, behind a d; several lie in
//! place of something that nothing reads any more.

use weft_kernels::ops::experts::Left;

use super::node::{Node, Routes, Value};
use crate::sites::{NormSite, Site};

/// Scratch of a product with adapters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Room {
    /// Workgroups that share a sum need this room.
    pub(crate) parts: Option<Value>,
    /// With dropout, what is left of the adapters' input, or the gradient of that.
    pub(crate) dropped: Option<Value>,
    /// The left side of the product in tiles, where the device is likely to have matrices. A gradient's are written
    /// before, if the value has this format.
    pub(crate) tiles: Option<Value>,
}

/// One step of a training program. `x` is what it reads, `out` what it writes, `into` what it adds to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// A node that answering has as well.
    Plain(Node),
    /// `t = scale x A^T`, `out = x W + t B^T`.
    Product { x: Value, site: Site, out: Value, t: Option<Value>, room: Room },
    /// `t = scale x A^T` alone.
    Down { x: Value, site: Site, t: Value, room: Room },
    /// `into += x`.
    Add { x: Value, into: Value },
    /// x in another format.
    Cast { x: Value, out: Value },
    /// x, a gradient, brought into the range of f16 and laid in tiles, if out has this format.
    Lay { x: Value, out: Value },
    /// `x = 0`.
    Clear { x: Value },
    /// Rows of x whose loss is computed: `out [rows, width]`.
    TakeRows { x: Value, out: Value },
    /// The loss of each row in `stats`, and the gradient of the logits in place of them.
    Loss { logits: Value, stats: Value },
    /// Rows of x to where they were taken from.
    PutRows { x: Value, into: Value },
    /// The gradient of what a norm reads, from dy, that of what it gives; added to dx or in its place.
    NormGradient { x: Value, norm: NormSite, dy: Value, dx: Value, add: bool },
    /// The gradient of gate and up in tiles, if that value has this format, or in place of them, x; what they make in
    /// place of its gradient, dy.
    GluGradient { layer: u32, x: Value, dy: Value, tiles: Option<Value> },
    /// The gradients of queries, keys and values.
    AttendGradient {
        layer: u32,
        split: [Value; 3],
        out: Value,
        lse: Value,
        dout: Value,
        scratch: Value,
        dsplit: [Value; 3],
    },
    /// The gradient of queries, keys and values side by side, before norms and rotation.
    HeadsGradient { layer: u32, qkv: Value, dsplit: [Value; 3], dqkv: Value },
    /// From dy, the gradient of `x W'`, to that of t, and to dx, or with `add` to the sum with what that holds.
    InputGradient { site: Site, dy: Value, dt: Option<Value>, dx: Option<Value>, add: bool, room: Room },
    /// Adds to the gradients of A and B.
    AdapterGradient { site: Site, dy: Value, x: Value, t: Value, dt: Value, room: Room },
    /// The gradient of what a product with experts reads, a row for each choice.
    ExpertGradient { site: Site, dy: Value, left: Left, routes: Routes, dx: Value },
    /// With h the gated values of each choice and g the gradient of what it adds unweighted: that of the weights, and g
    /// weighted in place of g.
    Weigh { h: Value, g: Value, routes: Routes, dweights: Value },
    /// `into = sum of y`, of each token's choices.
    Gather { y: Value, routes: Routes, into: Value },
    /// The gradient of a router's logits, from that of the weights.
    RouteGradient { logits: Value, routes: Routes, dweights: Value, dlogits: Value },
}

impl Step {
    /// The values that it reads, writes or works in.
    pub(crate) fn values(&self) -> Vec<Value> {
        let with = |some: &[Value], room: &Room| {
            some.iter().copied().chain(room.parts).chain(room.dropped).chain(room.tiles).collect::<Vec<_>>()
        };
        match self {
            Step::Plain(node) => node.values(),
            Step::Product { x, out, t, room, .. } => {
                [with(&[*x, *out], room), t.iter().copied().collect()].concat()
            }
            Step::Down { x, t, room, .. } => with(&[*x, *t], room),
            Step::Add { x, into: out }
            | Step::Cast { x, out }
            | Step::Lay { x, out }
            | Step::TakeRows { x, out }
            | Step::PutRows { x, into: out }
            | Step::Loss { logits: x, stats: out } => vec![*x, *out],
            Step::GluGradient { x, dy, tiles, .. } => [*x, *dy].into_iter().chain(*tiles).collect(),
            Step::Clear { x } => vec![*x],
            Step::NormGradient { x, dy, dx, .. } => vec![*x, *dy, *dx],
            Step::AttendGradient { split, out, lse, dout, scratch, dsplit, .. } => {
                [&split[..], &[*out, *lse, *dout, *scratch], dsplit].concat()
            }
            Step::HeadsGradient { qkv, dsplit, dqkv, .. } => [&[*qkv, *dqkv][..], dsplit].concat(),
            Step::InputGradient { dy, dt, dx, room, .. } => {
                with(&[*dy], room).into_iter().chain(*dt).chain(*dx).collect()
            }
            Step::AdapterGradient { dy, x, t, dt, room, .. } => with(&[*dy, *x, *t, *dt], room),
            Step::ExpertGradient { dy, dx, routes, .. } => [vec![*dy, *dx], routes.values()].concat(),
            Step::Weigh { h, g, routes, dweights } => [vec![*h, *g, *dweights], routes.values()].concat(),
            Step::Gather { y, routes, into } => [vec![*y, *into], routes.values()].concat(),
            Step::RouteGradient { logits, routes, dweights, dlogits } => {
                [vec![*logits, *dweights, *dlogits], routes.values()].concat()
            }
        }
    }
}
