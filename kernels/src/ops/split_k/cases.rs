//! Cases of the sum of parts.

use weft_runtime::Recorder;

use super::{reference, sum_splits};
use crate::layout::Columns;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One vector, one part, columns among others, several workgroups.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (shape, columns) in [
        ([1, 1, 4], Columns::all(4)),
        ([3, 7, 16], Columns { stride: 48, column: 32 }),
        ([9, 130, 64], Columns::all(64)),
        ([4, 33, 1000], Columns { stride: 1024, column: 20 }),
    ] {
        all.extend([false, true].map(|add| case(shape, columns, add)));
    }
    all
}

fn case(shape: [u32; 3], columns: Columns, add: bool) -> Case {
    let [count, rows, cols] = shape;
    let extra = if add { " +y" } else { "" };
    let name =
        format!("parts {count} rows {rows} cols {cols} at {} of {}{extra}", columns.column, columns.stride);
    Case::new("split_k", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(count * rows + cols, seed);
        let parts = rng.values((count * rows * cols) as usize);
        let before = rng.values((rows * columns.stride) as usize);
        let y = Guarded::new(gpu, before.len(), Some(&before))?;
        let mut rec = Recorder::new(gpu);
        sum_splits(&mut rec, &input(gpu, &parts)?, shape, (&y.slice, columns), 0.75, add)?;
        gpu.run(&rec.finish()?, None)?;
        let mut sums = reference::sum(&parts, (rows * cols) as usize, 0.75).into_iter();
        let inside =
            |i: usize| (columns.column..columns.column + cols).contains(&(i as u32 % columns.stride));
        let want: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(i, &v)| match (inside(i), add) {
                (false, _) => f64::from(v),
                (true, false) => sums.next().unwrap(),
                (true, true) => f64::from(v) + sums.next().unwrap(),
            })
            .collect();
        y.compare(gpu, &want)
    })
}
