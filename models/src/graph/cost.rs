//! What a pass cannot do without.

use weft_runtime::Cost;

use super::pass::Frame;
use crate::sites::{Group, Site};

impl Frame<'_> {
    /// Bytes and operations of the next `tokens` tokens of each of `sequences` sequences that has `position` tokens
    /// before them: every matrix that is used read once, with the keys and values of all positions that are seen; the products of
    /// layers for every token, those of the output head for the last; attention of what a token sees.
    pub(crate) fn cost(&self, sequences: u32, tokens: u32, position: u32) -> Cost {
        let (sequences, each) = (f64::from(sequences), f64::from(tokens));
        let mut cost = Cost::default();
        let mut product = |site, tokens: f64| {
            // The experts that some token uses are read, if each is as likely as any other.
            let (read, used) = match site {
                Site::Layer(layer, Group::GateUp | Group::Down) => {
                    self.spec.experts(layer).map_or((1.0, 1.0), |e| {
                        let part = f64::from(e.used) / f64::from(e.count);
                        (1.0 - (1.0 - part).powf(sequences * tokens), part)
                    })
                }
                _ => (1.0, 1.0),
            };
            for w in self.weights.shapes(site) {
                cost.bytes += read * w.slabs.iter().map(|s| s.bytes as f64).sum::<f64>();
                cost.flops += used * sequences * 2.0 * tokens * f64::from(w.rows) * f64::from(w.cols);
            }
        };
        for layer in 0..self.spec.layers() {
            Group::ALL.into_iter().for_each(|g| product(Site::Layer(layer, g), each));
            product(Site::Router(layer), each);
        }
        product(Site::Head, 1.0);
        for (layer, block) in (0..).zip(&self.spec.blocks) {
            let a = &block.attention;
            let bytes = self.kv.layer(layer).ty.bytes(1, a.head_dim) as f64;
            let window = if a.mask.window() == 0 { f64::INFINITY } else { f64::from(a.mask.window()) };
            let first = f64::from(position);
            // Token i of the batch sees the keys before it and itself, at most a window of them.
            let seen = match first + each <= window {
                true => each * first + each * (each + 1.0) / 2.0,
                false => (1..=tokens).map(|i| (first + f64::from(i)).min(window)).sum(),
            };
            let read = (first + each).min(window + each - 1.0);
            cost.bytes += sequences * 2.0 * f64::from(a.kv_heads) * bytes * read;
            cost.flops += sequences * 4.0 * f64::from(a.heads) * f64::from(a.head_dim) * seen;
        }
        cost
    }
}
