//! nomic-embed-text: BERT with RoPE in place of learnt positions, gated feed-forward networks, and no biases.

use weft_kernels::ops::rope::Pairing;

use super::decoder::dense;
use super::encoder::encoder;
use super::keys::{Keys, rotation};
use crate::Result;
use crate::spec::{Act, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    let head = k.required("embedding_length")? / k.required("attention.head_count")?;
    let rope = rotation(k, head, k.required("context_length")?, Pairing::HalfSplit)?;
    encoder(k, vec![rope], dense(k, Act::Silu)?)
}
