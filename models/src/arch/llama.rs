//! Llama 2 and 3, Mistral, SmolLM and SmolLM2. RoPE turns neighbours, because the converter permutes Q and K.

use weft_kernels::ops::rope::Pairing;

use super::decoder::{decoder, dense};
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    decoder(k, Pairing::Adjacent, dense(k, Act::Silu)?)
}
