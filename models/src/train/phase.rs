//! The phases of a step, each a program.

use std::ops::Range;

use weft_runtime::Program;

use crate::graph::Training;

/// The programs of a phase, one after the other: one, or where layers are streamed one for each layer, which it needs.
pub(super) type Parts = Vec<(Option<u32>, Program)>;

/// What a recorded program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// The forward pass of so many tokens.
    Forward(u32),
    /// The same without dropout.
    Evaluate(u32),
    /// The backward pass of so many tokens.
    Backward(u32),
    /// Without the gradient.
    Loss,
    LossAndGradient,
    Step,
}

impl Phase {
    /// The steps of each of its programs. Where layers are `streamed`, which says how many there are, those that need a
    /// layer are programs of their own.
    pub(super) fn parts(
        self,
        training: &Training,
        streamed: Option<u32>,
    ) -> Vec<(Option<u32>, Range<usize>)> {
        let by_layer = |parts: Vec<(u32, Range<usize>)>| {
            parts.into_iter().map(|(layer, steps)| (Some(layer), steps)).collect()
        };
        match (self, streamed) {
            (Phase::Forward(_) | Phase::Evaluate(_), None) => vec![(None, training.forward())],
            (Phase::Forward(_) | Phase::Evaluate(_), Some(_)) => by_layer(training.forward_by_layer()),
            (Phase::Backward(_), None) => vec![(None, training.backward())],
            (Phase::Backward(_), Some(layers)) => by_layer(training.backward_by_layer(layers)),
            (Phase::Loss, _) => vec![(None, training.loss(false))],
            (Phase::LossAndGradient, _) => vec![(None, training.loss(true))],
            // No part of a batch.
            (Phase::Step, _) => Vec::new(),
        }
    }
}
