//! Gemma 3 and MedGemma, text: GeGLU, a norm before and behind each half, a window on five layers of six, for which
//! RoPE has another base and no scaling. The embedding is scaled by the root of the width.

use weft_formats::gguf::{Array, Value};
use weft_kernels::ops::rope::{Pairing, Rotation, Scaling};

use super::decoder::{decoder, dense};
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Mask, Norms, QkNorm, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    let mut spec = decoder(k, Pairing::HalfSplit, dense(k, Act::GeluTanh)?)?;
    spec.embed.scale = (spec.width as f32).sqrt();
    let dims = 2 * spec.ropes[0].pairs();
    let base = k.float("rope.freq_base_swa")?.unwrap_or(10_000.0);
    spec.ropes.push(Rotation::new(dims, base.into(), None, Scaling::None, Pairing::HalfSplit));
    let window = k.count("attention.sliding_window")?;
    let local = local_layers(k, spec.blocks.len())?;
    // The largest model divides by what a head would have without a size of its own.
    let query = if spec.blocks.len() == 62 { spec.width / spec.heads() } else { spec.head_dim() };
    for (block, local) in spec.blocks.iter_mut().zip(local) {
        block.norms = Norms::Sandwich;
        block.attention.qk_norm = QkNorm::Head;
        block.attention.scale = 1.0 / (query as f32).sqrt();
        if let Some(window) = window.filter(|_| local) {
            block.attention.mask = Mask::Window(window);
            block.attention.rope = Some(1);
        }
    }
    if let Some(cap) = k.float("attn_logit_softcapping")?.filter(|&cap| cap != 0.0) {
        return Err(k.bad(k.key("attn_logit_softcapping"), cap, "caps attention's scores"));
    }
    spec.out.softcap = k.float("final_logit_softcapping")?.filter(|&cap| cap != 0.0);
    Ok(spec)
}

/// Which layers have a window: all but every sixth, or as the file says, by a number or layer by layer.
fn local_layers(k: &Keys<'_>, layers: usize) -> Result<Vec<bool>> {
    let key = "attention.sliding_window_pattern";
    if let Some(Value::Array(list)) = k.file.metadata().get(&k.key(key)) {
        // Numbers in a list are no period, which is one number alone.
        let all: Option<Vec<bool>> = match list {
            Array::Bool(all) => Some(all.clone()),
            Array::U32(all) => Some(all.iter().map(|n| *n != 0).collect()),
            Array::I32(all) => Some(all.iter().map(|n| *n != 0).collect()),
            _ => None,
        };
        let all = all.filter(|all| all.len() == layers);
        return all.ok_or_else(|| k.bad(k.key(key), "an array", "is not a value for each layer"));
    }
    let every = k.count(key)?.unwrap_or(6) as usize;
    Ok((0..layers).map(|i| i % every < every - 1).collect())
}
