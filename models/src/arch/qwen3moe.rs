//! Qwen 3 with a mixture of experts in place of every feed-forward network; the weights of those that a token uses add
//! up to one.

use weft_kernels::ops::rope::Pairing;

use super::decoder::{decoder, experts};
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    decoder(k, Pairing::HalfSplit, experts(k, Act::Silu, true)?)
}
