//! BERT and what has its graph: MiniLM, bge, e5, XLM-RoBERTa, and the rerankers among them. Positions are learnt.

use super::encoder::encoder;
use super::keys::Keys;
use crate::Result;
use crate::spec::{Act, Ffn, Spec};

pub(super) fn read(k: &Keys<'_>) -> Result<Spec> {
    let bias = k.file.tensor("blk.0.ffn_up.bias").is_some();
    let width = k.required("feed_forward_length")?;
    encoder(k, Vec::new(), Ffn::Plain { act: Act::GeluErf, width, bias })
}
