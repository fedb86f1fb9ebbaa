//! Activations placed by liveness: tensors that are never alive at the same step share memory.

/// Plans offsets for tensors that live from one step to another; a pure function, no GPU.
#[derive(Debug, Default, Clone)]
pub struct Arena {
    wanted: Vec<(u64, u32, u32)>,
}

/// Handle of a tensor in an [`Arena`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorId(usize);

/// Where the tensors of an [`Arena`] lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    offsets: Vec<(u64, u64)>,
    /// Bytes in all.
    pub total: u64,
}

impl Arena {
    /// An arena with nothing in it.
    pub fn new() -> Arena {
        Arena::default()
    }

    /// Adds a tensor of `bytes` that is written at step `first` and read for the last time at `last`.
    pub fn add(&mut self, bytes: u64, first: u32, last: u32) -> TensorId {
        self.wanted.push((bytes, first, last));
        TensorId(self.wanted.len() - 1)
    }

    /// Places all tensors at multiples of `align`: largest first, each in the lowest gap that is free
    /// while it lives.
    pub fn place(&self, align: u64) -> Layout {
        let mut order: Vec<usize> = (0..self.wanted.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.wanted[i].0));
        let mut offsets = vec![(0, 0); self.wanted.len()];
        let mut done: Vec<usize> = Vec::new();
        let mut total = 0;
        for i in order {
            let (bytes, first, last) = self.wanted[i];
            let size = bytes.next_multiple_of(align);
            let mut busy: Vec<(u64, u64)> = done
                .iter()
                .filter(|&&j| self.wanted[j].1 <= last && first <= self.wanted[j].2)
                .map(|&j| (offsets[j].0, offsets[j].0 + self.wanted[j].0.next_multiple_of(align)))
                .collect();
            busy.sort_unstable();
            let mut at = 0;
            for (start, end) in busy {
                if at + size <= start {
                    break;
                }
                at = at.max(end);
            }
            offsets[i] = (at, bytes);
            total = total.max(at + size);
            done.push(i);
        }
        Layout { offsets, total }
    }
}

impl Layout {
    /// The part of `memory`, which has [`Layout::total`] bytes, that belongs to `tensor`.
    pub fn slice(&self, memory: &crate::Slice, tensor: TensorId) -> crate::Slice {
        let (offset, size) = self.offsets[tensor.0];
        memory.range(offset, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_alive_together_never_overlap() {
        // Every combination of a small pseudo-random set, checked pair by pair.
        let mut state = 7u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        for _ in 0..200 {
            let mut arena = Arena::new();
            let wanted: Vec<(u64, u32, u32)> = (0..12)
                .map(|_| {
                    let first = next(10) as u32;
                    (next(5000) + 1, first, first + next(5) as u32)
                })
                .collect();
            let handles: Vec<TensorId> = wanted.iter().map(|&(b, f, l)| arena.add(b, f, l)).collect();
            let layout = arena.place(256);
            for (i, a) in wanted.iter().enumerate() {
                let (at, size) = layout.offsets[handles[i].0];
                assert!(at % 256 == 0 && at + size <= layout.total && size == a.0);
                for (j, b) in wanted.iter().enumerate().skip(i + 1) {
                    let (bt, bs) = layout.offsets[handles[j].0];
                    let alive_together = a.1 <= b.2 && b.1 <= a.2;
                    assert!(!alive_together || at + size <= bt || bt + bs <= at, "{a:?} {b:?}");
                }
            }
            let peak = (0..20)
                .map(|s| wanted.iter().filter(|w| w.1 <= s && s <= w.2).map(|w| w.0).sum::<u64>())
                .max()
                .unwrap();
            assert!(layout.total >= peak);
        }
    }
}
