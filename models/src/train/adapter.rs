//! Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) on the host, and how they lie in one flat
//! buffer on the device.

use std::collections::BTreeSet;

use crate::sites::{Group, Target};
use crate::{Error, Result, Spec};

/// One adapted matrix W `[out, in]`: it acts as W + scale B A.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Layer.
    pub layer: u32,
    /// Which of its matrices.
    pub target: Target,
    /// `[rank, in]`, row-major.
    pub a: Vec<f32>,
    /// `[out, rank]`, row-major.
    pub b: Vec<f32>,
}

/// An adapter on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Rank of every pair.
    pub rank: u32,
    /// Numerator of the scale.
    pub alpha: f32,
    /// Divide alpha by the root of the rank instead of the rank (rsLoRA, arXiv:2312.03732).
    pub rslora: bool,
    /// The adapted matrices.
    pub pairs: Vec<Pair>,
}

/// Largest rank.
pub const MAX_RANK: u32 = 256;

impl Adapter {
    /// A fresh adapter on `targets` of every layer, as peft makes it: A uniform in
    /// ±1/sqrt(inputs) (Kaiming with a = sqrt 5), B zero, so that it changes nothing yet.
    pub fn new(spec: &Spec, targets: &[Target], rank: u32, alpha: f32, rslora: bool, seed: u64) -> Adapter {
        let sites = AdapterShape::uniform(spec, targets, rank).sites;
        let mut state = seed;
        let mut next = move || {
            // SplitMix64.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
        };
        let pairs = sites
            .into_iter()
            .map(|(layer, target)| {
                let (inputs, outputs) = (target.inputs(spec), target.outputs(spec));
                let bound = 1.0 / (inputs as f32).sqrt();
                let a = (0..rank as usize * inputs as usize).map(|_| (2.0 * next() - 1.0) * bound).collect();
                Pair { layer, target, a, b: vec![0.0; outputs as usize * rank as usize] }
            })
            .collect();
        Adapter { rank, alpha, rslora, pairs }
    }

    /// What B A is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Where it sits, without its values.
    pub fn shape(&self) -> AdapterShape {
        AdapterShape { rank: self.rank, sites: self.pairs.iter().map(|p| (p.layer, p.target)).collect() }
    }

    /// Whether it belongs on such a model.
    ///
    /// # Errors
    /// [`Error::Adapter`]: no pair, a rank out of range, a layer that the model lacks, a matrix adapted
    /// twice, values of another shape.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let bad = |what: String| Err(Error::Adapter { what });
        if self.pairs.is_empty() {
            return bad("it adapts no matrix".into());
        }
        if !(1..=MAX_RANK).contains(&self.rank) {
            return bad(format!("its rank is {}; it must be from 1 to {MAX_RANK}", self.rank));
        }
        if !self.scale().is_finite() {
            return bad(format!("its alpha is {}", self.alpha));
        }
        let mut seen = BTreeSet::new();
        for p in &self.pairs {
            let name = p.target.tensor(p.layer);
            if p.layer >= spec.layers() {
                return bad(format!("it adapts {name}, and the model has {} layers", spec.layers()));
            }
            if !p.target.exists(spec, p.layer) {
                return bad(format!(
                    "it adapts {name}, in whose place the model has experts (supported: attention)"
                ));
            }
            if !seen.insert((p.layer, p.target)) {
                return bad(format!("it adapts {name} twice"));
            }
            let rank = self.rank as usize;
            let (inputs, outputs) = (p.target.inputs(spec) as usize, p.target.outputs(spec) as usize);
            if p.a.len() != rank * inputs || p.b.len() != outputs * rank {
                return bad(format!(
                    "{name} is {outputs} x {inputs} in the model, not {} x {}",
                    p.b.len() / rank,
                    p.a.len() / rank
                ));
            }
        }
        Ok(())
    }
}

/// Where an adapter sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterShape {
    /// Rank of every pair.
    pub rank: u32,
    /// Layer and matrix of every pair.
    pub sites: BTreeSet<(u32, Target)>,
}

impl AdapterShape {
    /// On `targets` of every layer.
    pub fn uniform(spec: &Spec, targets: &[Target], rank: u32) -> AdapterShape {
        let sites = (0..spec.layers()).flat_map(|l| targets.iter().map(move |&t| (l, t))).collect();
        AdapterShape { rank, sites }
    }

    /// Trained parameters.
    pub fn parameters(&self, spec: &Spec) -> u64 {
        let of = |t: Target| u64::from(self.rank) * u64::from(t.inputs(spec) + t.outputs(spec));
        self.sites.iter().map(|&(_, t)| of(t)).sum()
    }

    /// Adapted matrices of a group of a layer, in order.
    pub(crate) fn targets(&self, layer: u32, group: Group) -> Vec<Target> {
        Target::ALL.into_iter().filter(|&t| t.group() == group && self.sites.contains(&(layer, t))).collect()
    }

    /// The lowest layer and group that is adapted: nothing before needs a gradient.
    pub(crate) fn first(&self) -> (u32, Group) {
        self.sites.first().map_or((u32::MAX, Group::Down), |&(l, t)| (l, t.group()))
    }
}

/// Where each pair's values lie in the flat buffers of parameters, gradients and moments. The A of
/// matrices with one input follow each other, so that they act as one matrix `[pairs * rank, in]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flat {
    /// Byte offset and length of A and B, in the order of [`AdapterShape::sites`].
    pub(crate) places: Vec<((u32, Target), [(u64, u64); 2])>,
    /// Bytes in all.
    pub(crate) total: u64,
}

impl Flat {
    pub(crate) fn new(shape: &AdapterShape, spec: &Spec, align: u64) -> Flat {
        let mut at = 0;
        let mut take = |floats: u32, aligned: bool| {
            if aligned {
                at = u64::next_multiple_of(at, align);
            }
            let offset = at;
            at += u64::from(floats) * 4;
            (offset, u64::from(floats) * 4)
        };
        let mut places = Vec::new();
        let layers: BTreeSet<u32> = shape.sites.iter().map(|s| s.0).collect();
        for layer in layers {
            for group in [Group::Qkv, Group::Output, Group::GateUp, Group::Down] {
                let targets = shape.targets(layer, group);
                let a: Vec<_> =
                    (0..).zip(&targets).map(|(i, t)| take(shape.rank * t.inputs(spec), i == 0)).collect();
                for (t, a) in targets.iter().zip(a) {
                    places.push(((layer, *t), [a, take(t.outputs(spec) * shape.rank, true)]));
                }
            }
        }
        places.sort_by_key(|p| p.0);
        Flat { places, total: at.next_multiple_of(align) }
    }

    /// Byte offset and length of the stacked A of a group's `targets`, and of each one's B.
    pub(crate) fn group(&self, layer: u32, targets: &[Target]) -> ((u64, u64), Vec<(u64, u64)>) {
        let of = |t: Target| {
            let at = self.places.binary_search_by_key(&(layer, t), |p| p.0).expect("an adapted matrix");
            self.places[at].1
        };
        let first = of(targets[0])[0];
        let bytes = targets.iter().map(|&t| of(t)[0].1).sum();
        ((first.0, bytes), targets.iter().map(|&t| of(t)[1]).collect())
    }
}
