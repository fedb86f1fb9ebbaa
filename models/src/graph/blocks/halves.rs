//! What both halves of a block begin and end with.

use super::super::build::Builder;
use super::super::node::{Node, Value};
use crate::sites::{Group, NormSite, Site};
use crate::spec::Norms;

/// What a half of a block reads.
pub(super) fn enter(b: &mut Builder<'_>, layer: u32, x: Value, norm: NormSite) -> Value {
    if b.block(layer).norms == Norms::Post { x } else { b.norm(x, norm) }
}

/// The residual stream behind a half of a block, whose last product is of `group` and reads `y`; `norm` is the one
/// behind it.
pub(super) fn leave(
    b: &mut Builder<'_>,
    layer: u32,
    (y, group): (Value, Group),
    x: Value,
    norm: NormSite,
) -> Value {
    let site = Site::Layer(layer, group);
    match b.block(layer).norms {
        Norms::Pre => {
            b.product_to(y, site, x, true);
            x
        }
        Norms::Post => {
            b.product_to(y, site, x, true);
            b.norm(x, norm)
        }
        Norms::Sandwich => {
            let y = b.product(y, site);
            b.push(Node::AddNorm { x: y, norm, into: x });
            x
        }
    }
}
