//! Cases of the token embedding.

use weft_runtime::{Pool, Recorder};

use super::Embed;
use crate::WeightType;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, random_weight};

/// Every type; a single row, first and last rows, repeats, more tokens than a workgroup, long rows,
/// and tensors larger than a small binding; rows that are scaled, and added to what is there.
pub fn cases() -> Vec<Case> {
    let shapes =
        [(1u32, 256u32, 1u32), (5, 256, 1), (301, 256, 67), (1000, 512, 9), (7, 14_336, 5), (1600, 512, 200)];
    WeightType::ALL
        .iter()
        .flat_map(|&ty| shapes.map(|(rows, cols, tokens)| case(ty, [rows, cols, tokens], (1.0, false))))
        .chain(
            [(25.298_222, false), (1.0, true), (0.5, true)]
                .map(|how| case(WeightType::F16, shapes[2].into(), how)),
        )
        .chain([(1.0, true), (25.298_222, false)].map(|how| case(WeightType::Q8_0, shapes[2].into(), how)))
        .collect()
}

fn case(ty: WeightType, [rows, cols, tokens]: [u32; 3], (scale, add): (f32, bool)) -> Case {
    let mut name = format!("rows {rows} cols {cols} tokens {tokens}");
    if (scale, add) != (1.0, false) {
        name += &format!(" scale {scale} add {add}");
    }
    Case::new("embed", BASELINE, name, 1e-7, move |gpu, oracle, seed| {
        let mut rng = Rng::seeded(rows * tokens, seed);
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let mut ids: Vec<u32> = (0..tokens).map(|_| rng.below(rows as usize) as u32).collect();
        ids[0] = rows - 1;
        *ids.last_mut().unwrap() = if tokens > 1 { 0 } else { rows - 1 };
        let ids_gpu = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&ids), "ids")?;
        let before = if add { rng.values((tokens * cols) as usize) } else { Vec::new() };
        let y = Guarded::new(gpu, (tokens * cols) as usize, add.then_some(&before[..]))?;
        let mut rec = Recorder::new(gpu);
        Embed { scale, add, ..Embed::new(&w, &ids_gpu, &y.slice, tokens) }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::embed(&values, &ids, cols as usize, scale, &before))
    })
    .of_type(ty.name())
}
