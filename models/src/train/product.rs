//! The matrices of a product of the training graph.

use weft_kernels::Weight;
use weft_runtime::Slice;

use crate::sites::{Group, Site};
use crate::weights::Weights;

/// A product with its adapter: y `[tokens, stride]` = x W'.
pub(super) struct Product<'a> {
    pub(super) group: Group,
    pub(super) weights: Vec<(&'a Weight, Option<&'a Slice>)>,
}

impl Product<'_> {
    pub(super) fn stride(&self) -> u32 {
        self.weights.iter().map(|(w, _)| w.shape.rows).sum()
    }

    pub(super) fn inputs(&self) -> u32 {
        self.weights[0].0.shape.cols
    }
}

pub(super) fn product(w: &Weights, layer: u32, group: Group) -> Product<'_> {
    let parts = w.parts(Site::Layer(layer, group));
    Product { group, weights: parts.iter().map(|p| (&p.weight, p.bias.as_ref())).collect() }
}
