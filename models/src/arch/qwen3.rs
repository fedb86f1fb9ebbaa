//! Qwen 3: queries and keys of each head are normed before RoPE.

use weft_kernels::ops::rope::Pairing;

use super::decoder::{decoder, dense};
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    decoder(k, Pairing::HalfSplit, dense(k, Act::Silu)?)
}
