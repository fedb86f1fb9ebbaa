//! From when to when each value is alive, read off the nodes, and where it lies then.

use weft_runtime::{Arena, Layout, Slice, TensorId};

use super::node::{Info, Value};

/// The first and the last step that touches a value; `None` where none does.
pub(crate) type Span = Option<(u32, u32)>;

/// The span of each value, from the values that each step touches. Steps with one number are alive together.
pub(crate) fn spans(touched: impl IntoIterator<Item = (u32, Vec<Value>)>, values: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = vec![None; values];
    for (step, values) in touched {
        for v in values {
            let span = spans[v.0].get_or_insert((step, step));
            span.1 = step;
        }
    }
    spans
}

/// Where the values of a program lie in one piece of memory.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    layout: Layout,
    /// By value; `None` where no node touches it.
    placed: Vec<Option<TensorId>>,
}

impl Places {
    /// Places values, each for as long as it is alive.
    pub(crate) fn of(spans: &[Span], values: &[Info], align: u64) -> Places {
        let mut arena = Arena::new();
        let placed = spans
            .iter()
            .zip(values)
            .map(|(span, info)| {
                let (first, last) = span.filter(|_| !info.apart)?;
                Some(arena.add(info.bytes, first, last))
            })
            .collect();
        Places { layout: arena.place(align), placed }
    }

    /// Bytes in all.
    pub(crate) fn total(&self) -> u64 {
        self.layout.total
    }

    /// Where each value lies in `memory`.
    pub(crate) fn slices(&self, memory: &Slice) -> Vec<Option<Slice>> {
        self.placed.iter().map(|p| p.map(|p| self.layout.slice(memory, p))).collect()
    }
}
