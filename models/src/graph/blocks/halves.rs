//! What both halves of a block begin and end with.

use super::super::building::Build;
use super::super::learner::Learner;
use super::super::node::Value;
use crate::sites::{Group, NormSite, Site};
use crate::spec::Norms;

/// What a half of a block leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// What a norm behind the half read, where the block has one before the sum.
    given: Option<Value>,
    /// The residual stream behind the half.
    pub(super) out: Value,
}

impl Left {
    /// Nothing but the residual stream.
    pub(super) fn sum(out: Value) -> Left {
        Left { given: None, out }
    }
}

/// What a half of a block reads.
pub(super) fn enter(b: &mut dyn Build, layer: u32, x: Value, norm: NormSite) -> Value {
    if b.block(layer).norms == Norms::Post { x } else { b.norm(x, norm) }
}

/// The residual stream behind a half of a block, whose last product is of `group` and reads `y`; `norm` is the one
/// behind it.
pub(super) fn leave(
    b: &mut dyn Build,
    layer: u32,
    (y, group): (Value, Group),
    x: Value,
    norm: NormSite,
) -> Left {
    let site = Site::Layer(layer, group);
    match b.block(layer).norms {
        Norms::Pre => Left::sum(b.add_product(y, site, x)),
        Norms::Post => {
            let sum = b.add_product(y, site, x);
            Left::sum(b.norm(sum, norm))
        }
        Norms::Sandwich => {
            let given = b.product(y, site);
            Left { given: Some(given), out: b.add_norm(given, norm, x) }
        }
    }
}

/// The gradient of what a half's last product made, from dx, that of the residual stream behind the half.
pub(super) fn behind(b: &mut Learner<'_>, left: Left, norm: NormSite, dx: Value) -> Value {
    left.given.map_or(dx, |given| b.norm_gradient(given, norm, dx))
}
