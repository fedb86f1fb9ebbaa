//! Attention: `x += attend(rope(norm(x) Wqkv)) Wo`, with norms where the block has them.

use super::super::build::Builder;
use super::super::node::Value;
use super::halves::{enter, leave};
use crate::sites::{Group, NormSite, Site};

/// From the residual stream before the half to that behind it.
pub(super) fn forward(b: &mut Builder<'_>, layer: u32, x: Value) -> Value {
    let n = enter(b, layer, x, NormSite::Attention(layer));
    let qkv = b.product(n, Site::Layer(layer, Group::Qkv));
    let attended = match b.pass.is_packed() {
        true => b.attend_packed(layer, qkv),
        false => b.attend(layer, qkv),
    };
    leave(b, layer, (attended, Group::Output), x, NormSite::AfterAttention(layer))
}
