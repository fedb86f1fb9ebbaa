//! Qwen 2 and 2.5: biases of Q, K and V.

use weft_kernels::ops::rope::Pairing;

use super::decoder::{decoder, dense};
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    decoder(k, Pairing::HalfSplit, dense(k, Act::Silu)?)
}
