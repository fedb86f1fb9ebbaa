//! The matrices of a product of training programs.

use weft_kernels::Weight;
use weft_kernels::ops::Format;
use weft_kernels::ops::matmul::Variant;
use weft_runtime::{Caps, Slice};

use crate::sites::Site;
use crate::weights::Weights;

/// A product with its adapter: y `[tokens, stride]` = x W'.
pub(super) struct Product<'a> {
    pub(super) site: Site,
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

pub(super) fn product(w: &Weights, site: Site) -> Product<'_> {
    Product { site, weights: w.parts(site).iter().map(|p| (&p.weight, p.bias.as_ref())).collect() }
}

/// How the input of a product of `rows` rows is written: in f16 where all of its matrices would round it to that, and
/// its adapters, of this rank and dropout, take it.
pub(super) fn input_format(
    w: &Weights,
    caps: &Caps,
    (rank, dropout): (u32, f32),
    site: Site,
    rows: u32,
) -> Format {
    let p = product(w, site);
    let takes = match site {
        Site::Layer(..) => rank.is_multiple_of(4) && p.inputs().is_multiple_of(4) && dropout == 0.0,
        Site::Head => true,
        Site::Router(_) => false,
    };
    let coop = |ty| Variant::pick(caps, ty, rows) == Variant::Coop;
    match takes && p.weights.iter().all(|(w, _)| coop(w.shape.ty)) {
        true => Format::F16,
        false => Format::F32,
    }
}
