//! What most decoders have in common; an architecture's own file changes the rest.

use weft_kernels::ops::rope::Pairing;
use weft_kernels::ops::router::MAX_EXPERTS;

use super::keys::{Keys, rotation};
use crate::spec::{
    Act, Attention, Block, Embed, Experts, Ffn, Mask, Norm, Norms, Out, Pooling, QkNorm, Spec,
};
use crate::{Error, Result};

/// A dense gated feed-forward network.
///
/// # Errors
/// A mixture of experts; a missing width.
pub(super) fn dense(k: &Keys<'_>, act: Act) -> Result<Ffn> {
    if k.count("expert_count").ok().flatten().is_some() {
        return Err(k.bad(k.key("expert_count"), "set", "asks for a mixture of experts"));
    }
    Ok(Ffn::Gated { act, width: k.required("feed_forward_length")? })
}

/// A mixture of experts, each a gated feed-forward network, whose weights are a softmax over all of them; `normalised` if
/// those of the ones that a token uses are divided by their sum.
///
/// # Errors
/// A missing key; numbers of experts that do not fit each other or the router; experts that every token uses, layers
/// without, or another choice than by softmax.
pub(super) fn experts(k: &Keys<'_>, act: Act, normalised: bool) -> Result<Ffn> {
    let (count, used) = (k.required("expert_count")?, k.required("expert_used_count")?);
    if count > MAX_EXPERTS {
        let most = format!("is more than the {MAX_EXPERTS} that a layer can have");
        return Err(k.bad(k.key("expert_count"), count, &most));
    }
    if used > count {
        return Err(k.bad(k.key("expert_used_count"), used, &format!("is more than the {count} experts")));
    }
    // What these ask for is no part of this graph, unless they have the value beside them.
    for (name, none) in [
        ("expert_shared_count", 0),
        ("expert_shared_feed_forward_length", 0),
        ("leading_dense_block_count", 0),
        ("expert_group_count", 0),
        ("expert_gating_func", 1),
    ] {
        match k.file.metadata().u64(&k.key(name)) {
            Some(value) if value != none => {
                return Err(k.bad(k.key(name), value, &format!("is not supported (supported: {none})")));
            }
            _ => {}
        }
    }
    let key = k.key("expert_weights_norm");
    match k.file.metadata().bool(&key) {
        Some(divides) if divides != normalised => {
            return Err(k.bad(key, divides, "is not how this architecture weighs its experts"));
        }
        _ => {}
    }
    let scale = k.float("expert_weights_scale")?.filter(|&s| s != 0.0).unwrap_or(1.0);
    let width = k.required("expert_feed_forward_length")?;
    Ok(Ffn::Experts(Experts { count, used, act, width, normalised, scale }))
}

/// A decoder whose layers are all alike: RMSNorm before each half, causal attention with RoPE in every layer, biases
/// and QK-norms where the file has their tensors.
///
/// # Errors
/// A missing or senseless key, a missing token embedding.
pub(super) fn decoder(k: &Keys<'_>, pairing: Pairing, ffn: Ffn) -> Result<Spec> {
    let file = k.file;
    let (width, heads) = (k.required("embedding_length")?, k.required("attention.head_count")?);
    let kv_heads = k.count("attention.head_count_kv")?.unwrap_or(heads);
    let head_dim = k.count("attention.key_length")?.unwrap_or(width / heads);
    let value_dim = k.count("attention.value_length")?.unwrap_or(head_dim);
    if value_dim != head_dim {
        return Err(k.bad(k.key("attention.value_length"), value_dim, "differs from the key length"));
    }
    if heads % kv_heads != 0 {
        return Err(k.bad(k.key("attention.head_count_kv"), kv_heads, "does not divide the head count"));
    }
    let eps = k.float("attention.layer_norm_rms_epsilon")?.ok_or_else(|| Error::MissingKey {
        file: k.path(),
        key: k.key("attention.layer_norm_rms_epsilon"),
    })?;
    if !eps.is_finite() || eps < 0.0 {
        return Err(k.bad(k.key("attention.layer_norm_rms_epsilon"), eps, "is no small positive number"));
    }
    let vocabulary = k.vocabulary(width)?;
    let context = k.required("context_length")?;
    let has = |name: &str| file.tensor(name).is_some();
    let (pooling, classes) = k.pooling(Pooling::Last)?;
    let norm = Norm::Rms { eps };
    let attention = Attention {
        heads,
        kv_heads,
        head_dim,
        rope: Some(0),
        qk_norm: if has("blk.0.attn_q_norm.weight") { QkNorm::Head } else { QkNorm::None },
        bias: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
        output_bias: false,
        scale: 1.0 / (head_dim as f32).sqrt(),
        softcap: None,
        mask: Mask::Causal,
    };
    let block = Block { norms: Norms::Pre, norm, attention, ffn };
    Ok(Spec {
        architecture: k.arch.into(),
        name: file.metadata().str("general.name").map(str::to_owned),
        width,
        vocabulary,
        context,
        embed: Embed { scale: 1.0, positions: None, types: None, norm: None },
        ropes: vec![rotation(k, head_dim, context, pairing)?],
        blocks: vec![block; k.layers()?],
        out: Out { norm: Some(norm), tied: !has("output.weight"), softcap: None, pooling, classes },
    })
}
