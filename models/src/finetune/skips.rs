//! Which steps of a training are skipped, and when these are too many.

/// Steps in a row whose loss or gradient is not finite. So many are no accident of a batch.
const MOST: u64 = 8;

/// The steps in which nothing was learnt, since a loss or a gradient was not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skips {
    all: u64,
    row: u64,
}

impl Skips {
    /// Goes on counting in a run that was resumed after `all` skipped steps and a step that was not skipped.
    pub(super) fn so_far(all: u64) -> Skips {
        Skips { all, row: 0 }
    }

    /// All of them.
    pub fn all(self) -> u64 {
        self.all
    }

    /// Those since the last step that was not skipped.
    pub fn row(self) -> u64 {
        self.row
    }

    /// Counts step `step` of `steps`, in which something was `learnt` or not; whether the training goes on. One batch may
    /// have values beyond f16; several in a row tell of the parameters, and so does a run that has learnt nothing.
    #[must_use]
    pub fn count(&mut self, learnt: bool, step: u64, steps: u64) -> bool {
        if learnt {
            self.row = 0;
            return true;
        }
        self.all += 1;
        self.row += 1;
        self.row < MOST && (self.all < step || step < steps)
    }
}

#[cfg(test)]
mod tests {
    use super::Skips;

    #[test]
    fn eight_in_a_row_end_a_training_and_so_does_nothing_learnt() {
        let mut skips = Skips::default();
        for step in 1..=7 {
            assert!(skips.count(false, step, 20), "{step}");
        }
        assert!(skips.count(true, 8, 20));
        assert_eq!((skips.all(), skips.row()), (7, 0));
        assert!((9..=15).all(|step| skips.count(false, step, 20)));
        assert!(!skips.count(false, 16, 20));
        assert_eq!((skips.all(), skips.row()), (15, 8));

        let mut skips = Skips::default();
        assert!(skips.count(false, 1, 2) && !skips.count(false, 2, 2));
        let mut skips = Skips::default();
        assert!(skips.count(true, 1, 2) && skips.count(false, 2, 2));
    }
}
