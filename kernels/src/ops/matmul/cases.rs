//! Cases of the matrix products.

use weft_runtime::{Pool, Recorder};

use super::gradient::{Kernel, linear_gradient_with};
use super::{Columns, Epilogue, Input, MATVEC_TOKENS, Variant, linear_as};
use crate::ops::quantize::{self, Quantized};
use crate::registry::{Case, Guarded, Rng, input, random_weight};
use crate::{PlanError, WeightType};

/// Every type as every variant, at token counts on both sides of every threshold and tile edge; one
/// long row; and with F32 and F16 the shapes where edges meet.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL {
        let ints = ty.layout().has_ints();
        for variant in [Variant::Matvec, Variant::MatvecDot] {
            if variant == Variant::MatvecDot && !ints {
                continue;
            }
            for (rows, cols, tokens) in [(67, 256, 1), (130, 512, 2), (33, 768, 5), (64, 256, 8)] {
                all.push(case(variant, ty, rows, cols, tokens, false, false));
            }
            all.push(case(variant, ty, 48, 1024, 1, true, true));
            all.push(case(variant, ty, 70, 6400, 1, false, true));
        }
        for variant in [Variant::Tiled, Variant::Coop] {
            if variant == Variant::Coop && matches!(ty, WeightType::F32 | WeightType::BF16) {
                continue;
            }
            for (rows, cols, tokens) in [(65, 512, 9), (129, 256, 65), (128, 256, 128)] {
                all.push(case(variant, ty, rows, cols, tokens, false, false));
            }
            all.push(case(variant, ty, 48, 256, 33, true, true));
            all.push(case(variant, ty, 256, 768, 64, false, true));
        }
    }
    for (rows, cols, tokens) in [
        (1, 16, 1),
        (1, 16, 9),
        (3, 48, 7),
        (63, 32, 63),
        (64, 64, 64),
        (65, 80, 66),
        (17, 14_336, 1),
        (17, 14_336, 32),
        (300, 528, 3),
    ] {
        let variant = if tokens <= 8 { Variant::Matvec } else { Variant::Tiled };
        all.push(case(variant, WeightType::F32, rows, cols, tokens, false, true));
        all.push(case(variant, WeightType::F16, rows, cols, tokens, true, false));
        if tokens > 8 {
            all.push(case(Variant::Coop, WeightType::F16, rows, cols, tokens, true, true));
        }
    }
    all.extend(gradients());
    all
}

/// The gradient of every type with every kernel, of one of several stacked outputs and added to; with
/// F32 and F16 the shapes where edges meet.
fn gradients() -> Vec<Case> {
    let mut all = Vec::new();
    for variant in [Variant::Tiled] {
        for kernel in Kernel::all(variant) {
            for &ty in WeightType::ALL {
                for (rows, cols, tokens, add) in [(65, 256, 9, false), (129, 512, 130, true)] {
                    all.push(gradient(variant, kernel, ty, rows, cols, tokens, add));
                }
            }
            for (rows, cols, tokens) in
                [(1, 16, 1), (3, 48, 7), (31, 64, 63), (32, 64, 64), (33, 80, 65), (300, 144, 129)]
            {
                for (ty, add) in [(WeightType::F32, false), (WeightType::F16, true)] {
                    all.push(gradient(variant, kernel, ty, rows, cols, tokens, add));
                }
            }
            all.push(gradient(variant, kernel, WeightType::F16, 14_336, 64, 17, false));
        }
    }
    all
}

fn gradient(
    variant: Variant,
    kernel: Kernel,
    ty: WeightType,
    rows: u32,
    cols: u32,
    tokens: u32,
    add: bool,
) -> Case {
    // With a sum, the outputs are the middle of a wider dy.
    let y = if add { Columns { stride: rows + 23, column: 15 } } else { Columns::all(rows) };
    let (name, extra) = (kernel.tile_name(), if add { " +dx" } else { "" });
    let name = format!("{name} rows {rows} cols {cols} tokens {tokens}{extra}");
    let tolerance = if variant == Variant::Coop { 5e-4 } else { 1e-6 };
    Case::new("matmul_dx", variant.name(), name, tolerance, move |gpu, oracle, seed| {
        if let Err(why) = variant.supports(gpu.caps(), ty, MATVEC_TOKENS + 1) {
            return Err(PlanError::Shape { op: "matmul_dx", what: why.into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols + tokens, seed);
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let dy = rng.values((tokens * y.stride) as usize);
        let before = rng.values((tokens * cols) as usize);
        let before = add.then_some(&before[..]);
        let dx = Guarded::new(gpu, (tokens * cols) as usize, before)?;
        let dy_gpu = input(gpu, &dy)?;
        let mut rec = Recorder::new(gpu);
        linear_gradient_with(&mut rec, kernel, &w, (&dy_gpu, y), &dx.slice, tokens, add)?;
        gpu.run(&rec.finish()?, None)?;
        let at = (y.stride as usize, y.column as usize);
        dx.compare(gpu, &super::reference::gradient(&dy, at, &values, cols as usize, before))
    })
    .of_type(ty.name())
}

fn case(variant: Variant, ty: WeightType, rows: u32, cols: u32, tokens: u32, bias: bool, add: bool) -> Case {
    let extra = [(bias, " +bias"), (add, " +residual")].map(|(on, s)| if on { s } else { "" }).concat();
    let name = format!("rows {rows} cols {cols} tokens {tokens}{extra}");
    // f16 inputs lose what f16 loses; the others compute in f32 or in exact integers.
    let tolerance = if variant == Variant::Coop { 5e-4 } else { 1e-6 };
    Case::new("matmul", variant.name(), name, tolerance, move |gpu, oracle, seed| {
        if let Err(why) = variant.supports(gpu.caps(), ty, tokens) {
            return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols + tokens, seed);
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let x = rng.values((tokens * cols) as usize);
        let b = rng.values(rows as usize);
        // With a residual, y is wider than the product, which goes to its middle.
        let (stride, column) = if add { (rows + 24, 16) } else { (rows, 0) };
        let before = rng.values((tokens * stride) as usize);
        let b_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&b), "bias")?;
        let x_gpu = input(gpu, &x)?;
        let y = Guarded::new(gpu, before.len(), add.then_some(&before[..]))?;
        let (q, meta) = quantize::bytes(x.len() as u64);
        let ints = Quantized {
            q: gpu.alloc(Pool::Activations, q, "integers")?,
            meta: gpu.alloc(Pool::Activations, meta, "scales")?,
        };
        let mut rec = Recorder::new(gpu);
        if variant == Variant::MatvecDot {
            quantize::quantize(&mut rec, &x_gpu, &ints, tokens * cols)?;
        }
        let epilogue = Epilogue { bias: bias.then_some(&b_gpu), add };
        let input = Input { x: &x_gpu, ints: Some(&ints) };
        let out = (&y.slice, Columns { stride, column });
        linear_as(&mut rec, variant, &w, input, out, tokens, epilogue)?;
        gpu.run(&rec.finish()?, None)?;
        let inside = |i: usize| (column..column + rows).contains(&(i as u32 % stride));
        let residual: Vec<f32> =
            before.iter().enumerate().filter(|(i, _)| inside(*i)).map(|(_, &v)| v).collect();
        let mut product = super::reference::linear(
            &x,
            &values,
            cols as usize,
            bias.then_some(&b[..]),
            add.then_some(&residual[..]),
        )
        .into_iter();
        let want: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(i, &v)| if inside(i) { product.next().unwrap() } else { f64::from(v) })
            .collect();
        y.compare(gpu, &want)
    })
    .of_type(ty.name())
}
