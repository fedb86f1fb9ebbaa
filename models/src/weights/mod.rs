//! Weights: from the tensors of a file to matrices in planes and vectors on a device.

mod layout;
mod names;
mod ring;
mod stream;
mod upload;

use std::collections::BTreeMap;

use weft_kernels::Weight;
use weft_runtime::Slice;

use crate::sites::{NormSite, Site};

pub(crate) use layout::{Layout, cache_type};
pub(crate) use names::refuse_unknown;
pub(crate) use ring::Ring;
pub(crate) use stream::Stream;
pub(crate) use upload::{Matrix, upload};

/// A model's weights on a device.
pub(crate) struct Weights {
    /// `[vocabulary, width]`.
    pub(crate) embedding: Part,
    pub(crate) layers: Vec<Layer>,
    /// `[width]` f32 of an RMSNorm; of a LayerNorm `[2, width]`: weights, then biases.
    pub(crate) norms: BTreeMap<NormSite, Slice>,
    /// `[vocabulary, width]`; `None` where it is the embedding.
    pub(crate) head: Option<Part>,
    /// `[positions, width]` and `[types, width]`, rows of which are added to the embedding.
    pub(crate) tables: [Option<Part>; 2],
    pub(crate) classifier: Option<Classifier>,
}

/// One layer's weights but its norms.
pub(crate) struct Layer {
    /// For each [`Group`](crate::sites::Group) its matrices, as far as they share a type one.
    pub(crate) groups: [Vec<Part>; 4],
    /// `[2, head_dim]` f32: of queries, of keys.
    pub(crate) qk_norm: Option<Slice>,
    /// The same, evened: what a cache that rounds blocks of values takes.
    pub(crate) qk_norm_even: Option<Slice>,
    /// `[kv_heads, head_dim]` f32: the bias of keys once more, where a cache can keep them without it.
    pub(crate) key_bias: Option<Slice>,
    /// `[experts, width]`: what experts are chosen by.
    pub(crate) router: Option<Part>,
}

/// Matrices with one input whose outputs lie side by side, stacked.
pub(crate) struct Part {
    /// `[rows, inputs]`.
    pub(crate) weight: Weight,
    /// `[rows]` f32.
    pub(crate) bias: Option<Slice>,
}

/// The classifier of a reranker, which the host computes: it reads one vector a sequence.
pub(crate) struct Classifier {
    /// `[width, width]` and `[width]` f32: a layer before the last, with tanh behind it.
    pub(crate) dense: Option<[Vec<f32>; 2]>,
    /// `[classes, width]` f32.
    pub(crate) output: Vec<f32>,
    /// `[classes]` f32.
    pub(crate) bias: Vec<f32>,
}

impl Weights {
    /// The matrices of a site.
    pub(crate) fn parts(&self, site: Site) -> &[Part] {
        match site {
            Site::Layer(layer, group) => &self.layers[layer as usize].groups[group as usize],
            Site::Router(layer) => self.layers[layer as usize].router.as_slice(),
            Site::Head => std::slice::from_ref(self.head.as_ref().unwrap_or(&self.embedding)),
        }
    }

    /// The weights of a norm.
    ///
    /// # Panics
    /// If the model has none there.
    pub(crate) fn norm(&self, site: NormSite) -> &Slice {
        &self.norms[&site]
    }
}
