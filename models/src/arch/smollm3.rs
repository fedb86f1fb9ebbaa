//! SmolLM3: Llama without RoPE in every fourth layer.

use weft_kernels::ops::rope::Pairing;

use super::decoder::{decoder, dense};
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    let mut spec = decoder(k, Pairing::Adjacent, dense(k, Act::Silu)?)?;
    for block in spec.blocks.iter_mut().skip(3).step_by(4) {
        block.attention.rope = None;
    }
    Ok(spec)
}
