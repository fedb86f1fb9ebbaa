//! Cases of the strengths of adapters.

use weft_runtime::Recorder;

use super::{Shape, Strengths};
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One value; rows with strengths of their own; rows that share them, behind others; many rows.
pub fn cases() -> Vec<Case> {
    let shape = |rows, rank, adapters, first, step| Shape { rows, rank, adapters, first, step };
    [
        shape(1, 1, 1, 0, 1),
        shape(3, 16, 2, 0, 1),
        shape(7, 48, 5, 9, 0),
        shape(257, 80, 3, 2, 1),
        shape(1000, 32, 3, 4, 0),
    ]
    .map(case)
    .into()
}

fn case(shape: Shape) -> Case {
    let Shape { rows, rank, adapters, first, step } = shape;
    let name = format!("rows {rows} rank {rank} adapters {adapters} first {first} step {step}");
    Case::new("strengths", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * rank, seed);
        let t = rng.values((rows * rank) as usize);
        let strengths = rng.values(((first + (rows - 1) * step + 1) * adapters) as usize);
        let owners: Vec<u32> = (0..rank).map(|r| r * adapters / rank).collect();
        let out = Guarded::new(gpu, t.len(), Some(&t))?;
        let table = input(gpu, &strengths)?;
        let own = input(gpu, bytemuck::cast_slice(&owners))?;
        let mut rec = Recorder::new(gpu);
        Strengths { t: &out.slice, strengths: &table, owners: &own, shape }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        out.compare(gpu, &super::reference::strengths(&t, &strengths, &owners, &shape))
    })
}
