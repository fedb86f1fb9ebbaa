//! Cases of rows by index.

use weft_runtime::{Pool, Recorder};

use super::{NONE, Shape, gather, reference, scatter};
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One value, several workgroups, all rows, tensors larger than a small binding.
pub fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 1, 0), (10, 4, 300, 3), (70, 70, 64, 0), (200, 90, 512, 7), (1500, 1200, 5, 0)];
    let of = |s| [case("gather", false, s), case("scatter", false, s), case("scatter", true, s)];
    shapes.into_iter().flat_map(of).collect()
}

fn case(op: &'static str, add: bool, (total, count, width, index0): (u32, u32, u32, u32)) -> Case {
    let name = format!("rows {count} from {index0} of {total} width {width} add {add}");
    Case::new(op, BASELINE, name, 1e-14, move |gpu, _, seed| {
        let mut rng = Rng::seeded(total * width, seed);
        // Each row once, in any order, and some places without one.
        let mut order: Vec<usize> = (0..total as usize).collect();
        (1..order.len()).rev().for_each(|i| order.swap(i, rng.below(i + 1)));
        let rows: Vec<Option<usize>> =
            order[..count as usize].iter().enumerate().map(|(i, &r)| (i % 5 != 2).then_some(r)).collect();
        let mut list = vec![0; index0 as usize];
        list.extend(rows.iter().map(|r| r.map_or(NONE, |r| r as u32)));
        let list = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&list), "rows")?;
        let (x, y) = (rng.values((total * width) as usize), rng.values((count * width) as usize));
        let shape = Shape { total, count, width, index0 };
        let mut rec = Recorder::new(gpu);
        if op == "gather" {
            let out = Guarded::new(gpu, y.len(), None)?;
            gather(&mut rec, &input(gpu, &x)?, &list, &out.slice, &shape)?;
            gpu.run(&rec.finish()?, None)?;
            return out.compare(gpu, &reference::gather(&x, &rows, width as usize));
        }
        let out = Guarded::new(gpu, x.len(), Some(&x))?;
        scatter(&mut rec, &input(gpu, &y)?, &list, &out.slice, &shape, add)?;
        gpu.run(&rec.finish()?, None)?;
        out.compare(gpu, &reference::scatter(&y, &rows, &x, width as usize, add))
    })
}
