//! Cases of the Hadamard matrix.

use weft_runtime::Recorder;

use super::{Hadamard, reference};
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng};

/// Every side, one block, rows that are no whole workgroups, and values that differ much in size.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, cols, side) in
        [(1, 32, 32), (7, 96, 32), (9, 192, 64), (3, 640, 128), (40, 256, 256), (5, 8, 8)]
    {
        all.push(case([rows, cols], side, false));
        all.push(case([rows, cols], side, true));
    }
    all
}

fn case([rows, cols]: [u32; 2], side: u32, outliers: bool) -> Case {
    let name = format!("rows {rows} cols {cols} side {side}{}", if outliers { " outliers" } else { "" });
    Case::new("hadamard", BASELINE, name, 1e-12, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * cols + side, seed);
        let mut values = rng.values((rows * cols) as usize);
        if outliers {
            values.iter_mut().step_by(37).for_each(|v| *v *= 1e6);
        }
        let x = Guarded::new(gpu, values.len(), Some(&values))?;
        let mut rec = Recorder::new(gpu);
        Hadamard { x: &x.slice, rows, cols, side }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        x.compare(gpu, &reference::hadamard(&values, side as usize))
    })
}
