//! What encoders have in common: LayerNorm behind each half, every token sees its whole sequence, and a vector comes out.

use super::keys::Keys;
use crate::spec::{Attention, Block, Embed, Ffn, Mask, Norm, Norms, Out, Pooling, QkNorm, Spec};
use crate::{Error, Result};
use weft_kernels::ops::rope::Rotation;

/// An encoder whose layers are all alike, with the biases and the tables that the file has tensors of.
///
/// # Errors
/// A missing or senseless key, a missing token embedding.
pub(super) fn encoder(k: &Keys<'_>, ropes: Vec<Rotation>, ffn: Ffn) -> Result<Spec> {
    let (width, heads) = (k.required("embedding_length")?, k.required("attention.head_count")?);
    if width % heads != 0 {
        return Err(k.bad(k.key("attention.head_count"), heads, "does not divide the width"));
    }
    let key = "attention.layer_norm_epsilon";
    let missing = || Error::MissingKey { file: k.path(), key: k.key(key) };
    let norm = Norm::Layer { eps: k.float(key)?.ok_or_else(missing)? };
    if k.file.metadata().bool(&k.key("attention.causal")) == Some(true) {
        return Err(k.bad(k.key("attention.causal"), true, "is not how this architecture runs"));
    }
    let has = |name: &str| k.file.tensor(name).is_some();
    let rows = |name: &str| k.file.tensor(name).map(|t| t.shape.get(1).map_or(1, |&n| n as u32));
    let attention = Attention {
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        rope: (!ropes.is_empty()).then_some(0),
        qk_norm: QkNorm::None,
        bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        scale: 1.0 / ((width / heads) as f32).sqrt(),
        softcap: None,
        mask: Mask::Full,
    };
    let positions = rows("position_embd.weight");
    let (pooling, classes) = k.pooling(Pooling::Cls)?;
    Ok(Spec {
        architecture: k.arch.into(),
        name: k.file.metadata().str("general.name").map(str::to_owned),
        width,
        vocabulary: k.vocabulary(width)?,
        context: k.required("context_length")?.min(positions.unwrap_or(u32::MAX)),
        embed: Embed { scale: 1.0, positions, types: rows("token_types.weight"), norm: Some(norm) },
        ropes,
        blocks: vec![Block { norms: Norms::Post, norm, attention, ffn }; k.layers()?],
        out: Out { norm: None, tied: true, softcap: None, pooling, classes },
    })
}
