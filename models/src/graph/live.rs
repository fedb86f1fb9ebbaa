//! From when to when each value is alive, read off the nodes, and where it lies then.

use weft_runtime::{Arena, Layout, Placed};

use super::node::{Info, Node, Value};

/// Where the values of a program lie in one piece of memory.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    layout: Layout,
    /// By value; `None` where no node touches it.
    placed: Vec<Option<Placed>>,
}

impl Places {
    /// Places values from the first node that touches each to the last.
    pub(crate) fn of(nodes: &[Node], values: &[Info], align: u64) -> Places {
        let mut spans: Vec<Option<(u32, u32)>> = vec![None; values.len()];
        for (step, node) in (0..).zip(nodes) {
            for v in node.values() {
                let span = spans[v.0].get_or_insert((step, step));
                span.1 = step;
            }
        }
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

    /// Where a value lies in `memory`.
    pub(crate) fn slice(&self, memory: &weft_runtime::Slice, v: Value) -> weft_runtime::Slice {
        self.layout.slice(memory, self.placed[v.0].expect("a value that some node touches"))
    }
}
