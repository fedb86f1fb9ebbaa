//! Planned training programs: forward, loss and backward of a packed batch.

use std::ops::Range;

use weft_kernels::ops::Format;
use weft_runtime::Slice;

use super::blocks::{self, Sections};
use super::learner::{Learner, Lesson};
use super::live::{Places, spans};
use super::node::{Info, Node, Value};
use super::step::{Room, Step};
use crate::sites::Site;
use crate::spec::Spec;

/// The steps of a batch of so many tokens.
pub(crate) struct Training {
    pub(crate) steps: Vec<Step>,
    pub(crate) values: Vec<Info>,
    sections: Sections,
}

/// Where the values of batches lie: those of the largest, which has room for smaller ones.
#[derive(Debug, Clone)]
pub(crate) struct Homes {
    scratch: Places,
    /// The bytes of each layer that keeps anything.
    pub(crate) kept: Vec<u64>,
    /// Each value has the number of what it lies in, its offset there, and its length.
    in_kept: Vec<Option<(usize, u64, u64)>>,
}

impl Training {
    /// Builds the steps of a lesson.
    pub(crate) fn build(spec: &Spec, lesson: &Lesson) -> Training {
        let mut b = Learner::new(spec, lesson);
        let sections = blocks::training(&mut b);
        let Learner { steps, values, .. } = b;
        Training { steps, values, sections }
    }

    /// Steps of the forward pass, up to the residual stream after the last layer, whose gradient is cleared.
    pub(crate) fn forward(&self) -> Range<usize> {
        0..self.sections.loss
    }

    /// Steps of the loss of some rows, and with `gradient` those from there to the gradient of the residual stream.
    pub(crate) fn loss(&self, gradient: bool) -> Range<usize> {
        self.sections.loss..if gradient { self.sections.backward } else { self.sections.gradient }
    }

    /// Steps from the gradient of the residual stream after the last layer to those of the adapters.
    pub(crate) fn backward(&self) -> Range<usize> {
        self.sections.backward..self.steps.len()
    }

    /// The forward pass layer by layer, the first with what is before it and the last with what is behind.
    pub(crate) fn forward_by_layer(&self) -> Vec<(u32, Range<usize>)> {
        (0..).zip(self.sections.each_forward()).collect()
    }

    /// The backward pass layer by layer, from the last of `layers` on.
    pub(crate) fn backward_by_layer(&self, layers: u32) -> Vec<(u32, Range<usize>)> {
        (0..layers).rev().zip(self.sections.each_backward(self.steps.len())).collect()
    }

    /// For each row a loss, and more: `[rows, 4]` of [`Stats`](weft_kernels::ops::cross_entropy::Stats).
    pub(crate) fn stats(&self) -> Value {
        self.sections.stats
    }

    /// Writes values as every product that reads them would have them, if all would have them alike: what they read as
    /// `wants` says, and the gradients of what they make as `gradients` does.
    pub(crate) fn formats(
        &mut self,
        wants: impl Fn(Site, u32) -> Format,
        gradients: impl Fn(Site, u32) -> Format,
    ) {
        for step in &self.steps {
            if let Step::InputGradient { site, dy, room: Room { tiles: Some(v), .. }, .. } = *step {
                self.values[v.0].format = gradients(site, self.values[dy.0].rows);
            }
        }
        let mut wanted: Vec<Vec<Format>> = vec![Vec::new(); self.values.len()];
        for step in &self.steps {
            let of = match *step {
                Step::Product { x, site, .. }
                | Step::Down { x, site, .. }
                | Step::AdapterGradient { x, site, .. } => Some((x, site)),
                _ => None,
            };
            for v in step.values() {
                let format = match of {
                    Some((x, site)) if x == v => wants(site, self.values[v.0].rows),
                    _ => Format::F32,
                };
                wanted[v.0].push(format);
            }
        }
        for step in &self.steps {
            let Step::Plain(Node::Norm { out, .. } | Node::Glu { out, .. }) = *step else { continue };
            // The first one is the step's own.
            if let [_, first, rest @ ..] = &wanted[out.0][..] {
                self.values[out.0].format =
                    if rest.iter().all(|f| f == first) { *first } else { Format::F32 };
            }
        }
    }

    /// Places all values: what layers write in the forward pass and read in the backward pass in memory of the layer
    /// that reads it, which no buffer could hold for all of them; what lives shorter in one piece of scratch.
    pub(crate) fn place(&self, align: u64) -> Homes {
        let Sections { layers, loss, backward, .. } = self.sections;
        // The loss runs many times, a piece of the rows at a time, so that all that it touches is alive until its end.
        let number = |i: usize| if (loss..backward).contains(&i) { loss as u32 } else { i as u32 };
        let touched = self.steps.iter().enumerate().map(|(i, s)| (number(i), s.values()));
        let mut alive = spans(touched, self.values.len());
        let mut kept = Vec::new();
        let mut in_kept = vec![None; self.values.len()];
        for range in self.sections.each_backward(self.steps.len()) {
            let mut bytes = 0u64;
            for v in self.steps[range].iter().flat_map(Step::values) {
                let written = alive[v.0].is_some_and(|(first, _)| (first as usize) < layers);
                if written && in_kept[v.0].is_none() {
                    let length = self.values[v.0].bytes;
                    in_kept[v.0] = Some((kept.len(), bytes, length));
                    bytes += length.next_multiple_of(align);
                }
            }
            if bytes > 0 {
                kept.push(bytes);
            }
        }
        for (span, _) in alive.iter_mut().zip(&in_kept).filter(|(_, kept)| kept.is_some()) {
            *span = None;
        }
        Homes { scratch: Places::of(&alive, &self.values, align), kept, in_kept }
    }
}

impl Homes {
    /// Bytes of scratch.
    pub(crate) fn scratch(&self) -> u64 {
        self.scratch.total()
    }

    /// Where each value lies; `None` where no step touches it.
    pub(crate) fn slices(&self, scratch: &Slice, kept: &[Slice]) -> Vec<Option<Slice>> {
        let in_scratch = self.scratch.slices(scratch);
        let kept = |&(layer, offset, length): &(usize, u64, u64)| kept[layer].range(offset, length);
        in_scratch.into_iter().zip(&self.in_kept).map(|(s, k)| s.or(k.as_ref().map(kept))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::learner::Kept;
    use super::*;
    use crate::sites::Group;

    const TOKENS: u32 = 64;

    /// Adapters of rank 8 on the matrices of attention, from the second of four layers on.
    fn built(kept: Kept) -> (Spec, Training) {
        let spec = Spec::qwen3([4, 64, 192, 2, 1, 32, 256, 512]);
        let trained = |layer| if layer == 0 { [0; 4] } else { [24, 8, 0, 0] };
        let lesson = Lesson {
            tokens: TOKENS,
            rows: 16,
            ranks: (0..4).map(trained).collect(),
            first: (1, Group::Qkv),
            kept: vec![kept; 4],
            dropout: false,
            parts: 1 << 10,
            tiles: false,
        };
        let training = Training::build(&spec, &lesson);
        (spec, training)
    }

    #[test]
    fn layers_keep_what_is_read_again_and_no_more() {
        let bytes = |cols: u32| u64::from(TOKENS * cols) * 4;
        let (spec, training) = built(Kept::Input);
        // Its input alone, from the first layer that is trained on.
        assert_eq!(training.place(256).kept, [bytes(spec.width); 3]);
        let (_, training) = built(Kept::Halves);
        // The residual stream before and between its halves, queries, keys and values, what attention gives, its
        // log-sum-exp, ranks, and gate and up in f16.
        let a = spec.attention();
        let floats = 2 * spec.width + a.qkv_width() + a.q_width() + a.heads + 24 + 8 + spec.feed_forward();
        assert_eq!(training.place(256).kept, [bytes(floats); 3]);
        // Gate and up have as much more in f32.
        let (_, training) = built(Kept::Whole);
        assert_eq!(training.place(256).kept, [bytes(floats + spec.feed_forward()); 3]);
    }

    #[test]
    fn programs_follow_each_other() {
        let (_, training) = built(Kept::Input);
        let Training { steps, .. } = &training;
        assert!(matches!(steps[training.forward().start], Step::Plain(Node::Embed { .. })));
        assert!(matches!(steps[training.loss(false).end - 1], Step::Loss { .. }));
        assert!(matches!(steps[training.loss(true).end - 1], Step::PutRows { .. }));
        assert_eq!(training.forward().end, training.loss(true).start);
        assert_eq!(training.loss(true).end, training.backward().start);
        // Layer by layer it is the same.
        let (forward, backward) = (training.forward_by_layer(), training.backward_by_layer(4));
        assert_eq!(forward.iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(backward.iter().map(|p| p.0).collect::<Vec<_>>(), [3, 2, 1]);
        for (parts, whole) in [(forward, training.forward()), (backward, training.backward())] {
            assert!(parts.windows(2).all(|p| p[0].1.end == p[1].1.start));
            assert_eq!(parts[0].1.start..parts[parts.len() - 1].1.end, whole);
            for (layer, range) in parts {
                let other =
                    |s: &Step| matches!(*s, Step::Product { site: Site::Layer(l, _), .. } if l != layer);
                assert!(!steps[range].iter().any(other), "layer {layer}");
            }
        }
        // Nothing before the first adapter gets a gradient.
        assert!(matches!(
            steps[steps.len() - 1],
            Step::AdapterGradient { site: Site::Layer(1, Group::Qkv), .. }
        ));
    }
}
