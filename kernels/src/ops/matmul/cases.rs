//! Cases of the matrix products.

use std::ops::ControlFlow;

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::chain::{self, ChainEpilogue, ChainOutput};
use super::{
    Columns, Coop, Direction, Epilogue, Input, Kernel, LowRank, MATVEC_TOKENS, Variant, gradient_with,
    linear_as, linear_with,
};
use crate::layout::Format;
use crate::ops::quantize::{self, Quantized};
use crate::ops::rmsnorm::{self, Norm};
use crate::ops::tile::reference::tiles;
use crate::testing::{
    Case, Gradient, Gradients, Guarded, Oracle, Rng, input, nmse, random_blocks, random_weight, weight_of,
};
use crate::{PlanError, Result, Weight, WeightShape, WeightType, fill};

/// Every type as every variant, at token counts on both sides of every threshold and tile edge; one
/// long row; and with F32 and F16 the shapes where edges meet.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (i, &ty) in WeightType::ALL.iter().enumerate() {
        let ints = ty.layout().has_ints();
        // A count of tokens is a shader, and these are long: every other type's turn.
        let several = if i % 2 == 0 { (33, 768, 5) } else { (64, 256, 8) };
        for variant in [Variant::Matvec, Variant::MatvecDot] {
            if variant == Variant::MatvecDot && !ints {
                continue;
            }
            for (rows, cols, tokens) in [(67, 256, 1), (130, 512, 2), several] {
                all.push(case(variant, ty, rows, cols, tokens, false, false));
            }
            all.push(case(variant, ty, 48, 1024, 1, true, true));
            all.push(case(variant, ty, 70, 6400, 1, false, true));
        }
        for variant in MANY {
            if !takes(variant, ty) {
                continue;
            }
            for (rows, cols, tokens) in [(65, 512, 9), (129, 256, 65), (128, 256, 128)] {
                all.push(case(variant, ty, rows, cols, tokens, false, false));
            }
            all.push(case(variant, ty, 48, 256, 33, true, true));
            all.push(case(variant, ty, 256, 768, 64, false, true));
        }
    }
    all.extend(direct());
    all.extend(sliced());
    // Whole tiles of a few slots.
    for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K] {
        all.push(case(Variant::Coop, ty, 128, 512, 16, false, false));
        all.push(case(Variant::Coop, ty, 192, 1024, 32, false, true));
    }
    // Every tile, with types of each kind of fragment.
    for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K] {
        for (variant, count) in MANY.into_iter().zip(TILES) {
            for tile in (0..count).filter(|_| takes(variant, ty)) {
                all.push(case_with(variant, Some(tile), ty, 130, 768, 129, [true, false, false, false]));
                // Whole tiles of outputs, a part of one of tokens.
                all.push(case_with(variant, Some(tile), ty, 256, 512, 200, [false, true, false, false]));
                // With adapters, and where kernels are cooperative, a sum that workgroups share.
                let cols = if variant == Variant::Coop { 2048 } else { 512 };
                let extra = [false, tile % 2 == 0, true, false];
                all.push(case_with(variant, Some(tile), ty, 256, cols, 72, extra));
            }
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
            all.push(case(Variant::TiledF16, WeightType::BF16, rows, cols.min(256), tokens, true, true));
        }
    }
    // Batches of every size up to the threshold, and a large one; extreme numbers.
    for (variant, ty) in [
        (Variant::Matvec, WeightType::BF16),
        (Variant::MatvecDot, WeightType::Q8_0),
        (Variant::MatvecDot, WeightType::Q5_K),
        (Variant::MatvecDot, WeightType::IQ3_S),
    ] {
        for tokens in [3, 4, 6, 7] {
            all.push(case(variant, ty, 37, 512, tokens, false, false));
        }
    }
    for (variant, ty) in MANY.into_iter().flat_map(|v| [(v, WeightType::F16), (v, WeightType::Q4_K)]) {
        if takes(variant, ty) {
            for tokens in [32, 512] {
                all.push(case(variant, ty, 33, 256, tokens, false, false));
            }
        }
    }
    // Activations beyond f16: every variant, and every tile of those with matrices.
    for variant in Variant::ALL {
        let ty = if takes(variant, WeightType::BF16) { WeightType::BF16 } else { WeightType::Q8_0 };
        let tokens = if variant.few() { 3 } else { 40 };
        all.push(beyond_case(variant, None, ty, [128, 768, tokens]));
        let halves = matches!(variant, Variant::Coop | Variant::Direct | Variant::TiledF16);
        for tile in (0..8).filter(|_| halves) {
            all.push(beyond_case(variant, Some(tile), WeightType::Q8_0, [256, 512, 128]));
            all.push(beyond_case(variant, Some(tile), WeightType::Q8_0, [256, 512, 72]));
        }
    }
    for variant in Variant::ALL.into_iter().filter(|&v| !v.tiles()) {
        let tokens = if variant.few() { 3 } else { 40 };
        for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::IQ1_M, WeightType::MXFP4]
        {
            if takes(variant, ty) {
                all.push(case_with(variant, None, ty, 70, 768, tokens, [false, false, false, true]));
            }
        }
    }
    for (variant, tokens) in [(Variant::Matvec, 4), (Variant::Broadcast, 20), (Variant::Coop, 20)] {
        all.push(normed_case(variant, WeightType::Q4_K, 256, 2048, tokens));
        all.push(normed_case(variant, WeightType::F16, 1028, 64, tokens));
    }
    all.push(normed_case(Variant::Sliced, WeightType::Q4_K, 256, 4096, 20));
    all.extend(gradients());
    for (turn, &ty) in WeightType::ALL.iter().filter(|t| t.layout().has_ints()).enumerate() {
        for (i, (kind, rows, cols)) in [
            (ChainEpilogue::Rows, 70, 512),
            (ChainEpilogue::Rows, 130, 2048),
            (ChainEpilogue::Residual, 192, 256),
            (ChainEpilogue::Residual, 64, 1280),
            (ChainEpilogue::Residual, 128, 4096),
            (ChainEpilogue::SwiGlu, 96, 768),
            (ChainEpilogue::SwiGlu, 64, 2304),
        ]
        .into_iter()
        .enumerate()
        {
            // The types take turns at how many tokens there are.
            let tokens = [1, 3, 1, 8][(turn + i) % 4];
            all.push(chain_case(kind, ty, [tokens, rows, cols]));
        }
    }
    use WeightType::{Q3_K, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0};
    for [a, b] in [[Q4_K, Q6_K], [Q6_K, Q4_K], [Q5_K, Q6_K], [Q3_K, Q5_K], [Q8_0, Q4_0]] {
        all.push(mixed_case([a, b], [128, 33], [1, 512]));
        all.push(mixed_case([a, b], [64, 70], [4, 2304]));
    }
    // Rows are as many as fill a large GPU, where workgroups share no sums.
    for ([a, b], tokens) in [([Q4_K, Q6_K], 20), ([Q4_K, Q6_K], 64), ([Q5_K, Q6_K], 9), ([Q8_0, Q4_0], 32)] {
        all.push(two_case([a, b], [4352, 64], [tokens, 512]));
    }
    all
}

/// The variants for many tokens, and how many tiles they have at most.
const MANY: [Variant; 5] =
    [Variant::Tiled, Variant::TiledF16, Variant::TiledDot, Variant::Broadcast, Variant::Coop];
const TILES: [usize; 5] = [5, 3, 3, 3, 8];

/// Whether a variant is for a type at all.
fn takes(variant: Variant, ty: WeightType) -> bool {
    match variant {
        Variant::MatvecDot | Variant::TiledDot => ty.layout().has_ints(),
        Variant::TiledF16 | Variant::Coop | Variant::Direct | Variant::Sliced => ty != WeightType::F32,
        _ => true,
    }
}

/// The kernel that takes tiles: shapes of whole tiles of outputs and of the sum, any number of tokens.
fn direct() -> Vec<Case> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL.iter().filter(|&&ty| takes(Variant::Direct, ty)) {
        all.push(case(Variant::Direct, ty, 128, 512, 130, false, false));
        all.push(case(Variant::Direct, ty, 64, 256, 33, true, true));
    }
    for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K] {
        for tile in 0..3 {
            all.push(case_with(Variant::Direct, Some(tile), ty, 256, 512, 256, [false, true, false, false]));
            // With a sum that workgroups share, and an adapter behind it.
            all.push(case_with(Variant::Direct, Some(tile), ty, 256, 2048, 72, [false, true, true, false]));
        }
        // More than one stripe of column tiles, the last of which is not full.
        all.push(case(Variant::Direct, ty, 1216, 256, 300, false, false));
        all.push(case_with(Variant::Direct, None, ty, 128, 768, 40, [false, false, false, true]));
    }
    all
}

/// The kernel whose subgroups share a sum: shapes of whole tiles, up to 64 tokens.
fn sliced() -> Vec<Case> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL.iter().filter(|&&ty| takes(Variant::Sliced, ty)) {
        all.push(case(Variant::Sliced, ty, 96, 512, 16, false, false));
    }
    for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K] {
        for (tile, tokens) in [(0, 6), (0, 16), (1, 19), (2, 32), (3, 64)] {
            all.push(case_with(Variant::Sliced, Some(tile), ty, 64, 768, tokens, [true, true, false, false]));
            // With a sum that workgroups share, and an adapter behind it.
            all.push(case_with(
                Variant::Sliced,
                Some(tile),
                ty,
                128,
                4096,
                tokens,
                [false, true, true, false],
            ));
        }
        all.push(case_with(Variant::Sliced, None, ty, 128, 768, 40, [false, false, false, true]));
    }
    all
}

/// The kernel of a case: the one picked, or a tile by number, round and round those that the device
/// has room for.
fn kernel(
    gpu: &Gpu,
    variant: Variant,
    direction: Direction,
    tile: Option<usize>,
    (ty, outputs): (WeightType, u32),
    tokens: u32,
) -> Kernel {
    let all = Kernel::all(variant, direction, gpu.caps());
    tile.map_or_else(
        || Kernel::pick(variant, direction, (Format::F32, ty), gpu.caps(), outputs, tokens),
        |tile| all[tile % all.len()],
    )
}

fn tolerance(variant: Variant) -> f64 {
    match variant {
        // f16 loses what f16 loses, and so do activations of 8 bits.
        Variant::Coop | Variant::Direct | Variant::Sliced | Variant::TiledF16 | Variant::TiledDot => 5e-4,
        // These compute in f32 or in integers that lose nothing.
        _ => 1e-6,
    }
}

/// The gradient of every type, of one of several stacked outputs and added to; with some the shapes
/// where edges meet, and every tile.
fn gradients() -> Vec<Case> {
    let mut all = Vec::new();
    for (variant, tiles) in [(Variant::Tiled, 5), (Variant::Coop, 8)] {
        let exact = if variant == Variant::Tiled { WeightType::F32 } else { WeightType::BF16 };
        for &ty in WeightType::ALL.iter().filter(|&&ty| takes(variant, ty)) {
            for (rows, cols, tokens, add) in [(68, 256, 9, false), (129, 512, 130, true)] {
                all.push(gradient(variant, None, ty, rows, cols, tokens, [add, false]));
            }
        }
        for (rows, cols, tokens) in
            [(1, 16, 1), (3, 48, 7), (31, 64, 63), (32, 64, 64), (33, 80, 65), (300, 144, 129)]
        {
            for (ty, add) in [(exact, false), (WeightType::F16, true)] {
                all.push(gradient(variant, None, ty, rows, cols, tokens, [add, false]));
            }
        }
        all.push(gradient(variant, None, WeightType::F16, 14_336, 64, 17, [false; 2]));
        for ty in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K] {
            for tile in 0..tiles {
                all.push(gradient(variant, Some(tile), ty, 132, 256, 129, [true, false]));
                all.push(gradient(variant, Some(tile), ty, 128, 256, 200, [tile % 2 == 0, false]));
                all.push(gradient(variant, Some(tile), ty, 2048, 256, 72, [tile % 2 == 1, true]));
            }
        }
    }
    for &ty in WeightType::ALL.iter().filter(|&&ty| takes(Variant::Direct, ty)) {
        all.push(gradient(Variant::Direct, None, ty, 128, 256, 130, [true, false]));
    }
    for tile in 0..3 {
        all.push(gradient(Variant::Direct, Some(tile), WeightType::Q4_K, 256, 512, 200, [false, false]));
        all.push(gradient(Variant::Direct, Some(tile), WeightType::F16, 2048, 256, 72, [true, true]));
    }
    all
}

fn gradient(
    variant: Variant,
    tile: Option<usize>,
    ty: WeightType,
    rows: u32,
    cols: u32,
    tokens: u32,
    [add, low]: [bool; 2],
) -> Case {
    // With a sum, the outputs are the middle of a wider dy; cooperative kernels want multiples of 4.
    let wide = if variant == Variant::Direct {
        (rows + 96, 32)
    } else if variant == Variant::Coop {
        (rows.next_multiple_of(4) + 24, 16)
    } else {
        (rows + 23, 15)
    };
    let stride = if variant == Variant::Coop { rows.next_multiple_of(4) } else { rows };
    let (stride, column) = if add { wide } else { (stride, 0) };
    let columns = Columns { stride, column };
    // Gradients are small: f16 must be told by how much.
    let (size, scale) = if add { (1e-6, 524_288.0) } else { (1.0, 1.0) };
    let tile_name = tile.map_or(String::new(), |t| format!("tile {t} "));
    let extra = [(add, " +dx"), (low, " +adapters")].map(|(on, s)| if on { s } else { "" }).concat();
    let name = format!("{tile_name}rows {rows} cols {cols} tokens {tokens}{extra}");
    Case::backward("matmul_dx", variant.name(), name, tolerance(variant), move |gpu, oracle, seed| {
        if let Err(why) = variant.supports(gpu.caps(), ty, MATVEC_TOKENS + 1) {
            return Err(PlanError::Shape { op: "matmul_dx", what: why.into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols + tokens, seed);
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let dy: Vec<f32> = rng.values((tokens * stride) as usize).iter().map(|v| v * size).collect();
        let before: Vec<f32> = rng.values((tokens * cols) as usize).iter().map(|v| v * size).collect();
        let before = add.then_some(&before[..]);
        let dx = Guarded::new(gpu, (tokens * cols) as usize, before)?;
        let format = tiles_of(gpu, variant);
        let dy_gpu = match format {
            Format::F32 => input(gpu, &dy)?,
            // Tiles have the scale in them.
            tiles => left_side(gpu, tiles, &dy.iter().map(|v| v * scale).collect::<Vec<_>>(), stride)?,
        };
        let mut rec = Recorder::new(gpu);
        let kernel = kernel(gpu, variant, Direction::Gradient, tile, (ty, cols), tokens);
        let low = match low {
            true => Some(Low::new(gpu, Direction::Gradient, cols, tokens, size, &mut rng)?),
            false => None,
        };
        let input = super::Gradient {
            low: low.as_ref().map(Low::rank),
            scratch: low.as_ref().map(|l| &l.parts),
            format,
            ..super::Gradient::new(&dy_gpu, columns, scale)
        };
        gradient_with(&mut rec, kernel, &w, input, &dx.slice, tokens, add)?;
        gpu.run(&rec.finish()?, None)?;
        let at = (stride as usize, column as usize);
        let mut want = super::reference::gradient(&dy, at, &values, cols as usize, before);
        let x = rng.values(want.len()).into_iter().map(f64::from).collect();
        // What dx held before is the gradient of something else that x goes into.
        let mut before: Vec<f64> = before.unwrap_or_default().iter().map(|&v| f64::from(v)).collect();
        if let Some(low) = low {
            before.resize(want.len(), 0.0);
            for ((want, before), v) in want.iter_mut().zip(&mut before).zip(low.values) {
                *want += v;
                *before += v;
            }
        }
        let loss = move |x: &[&[f64]]| {
            let y = super::reference::linear(x[0], &values, cols as usize, None, None);
            let dy = dy.chunks_exact(at.0).flat_map(|dy| &dy[at.1..][..rows as usize]);
            let direct: f64 = before.iter().zip(x[0]).map(|(b, x)| b * x).sum();
            direct + y.iter().zip(dy).map(|(y, &dy)| y * f64::from(dy)).sum::<f64>()
        };
        Ok(Gradients { of: vec![Gradient::read(gpu, x, &dx, want)?], loss: Box::new(loss) })
    })
    .of_type(ty.name())
}

fn case(variant: Variant, ty: WeightType, rows: u32, cols: u32, tokens: u32, bias: bool, add: bool) -> Case {
    case_with(variant, None, ty, rows, cols, tokens, [bias, add, false, false])
}

/// An adapter's product, or those of two matrices that are stacked, and activations for parts of sums.
struct Low {
    t: Slice,
    m: Slice,
    bounds: [u32; 2],
    parts: Slice,
    /// What is added, `[tokens, outputs]`.
    values: Vec<f64>,
}

const LOW_RANK: u32 = 20;
const LOW_T: Columns = Columns { stride: 64, column: 4 };

impl Low {
    /// A case of a product of `outputs`; forward with a second adapter from output 128 on.
    fn new(
        gpu: &Gpu,
        direction: Direction,
        outputs: u32,
        tokens: u32,
        size: f32,
        rng: &mut Rng,
    ) -> Result<Low> {
        let t: Vec<f32> = rng.values((tokens * LOW_T.stride) as usize).iter().map(|v| v * size).collect();
        let m = rng.values((LOW_RANK * outputs) as usize);
        let forward = direction == Direction::Forward;
        let bounds = [if forward && outputs > 128 { 128 } else { u32::MAX }, u32::MAX];
        let value = |token: u32, out: u32| {
            let column = LOW_T.column + if out >= bounds[0] { LOW_RANK } else { 0 };
            let term = |r: u32| {
                let at = if forward { out * LOW_RANK + r } else { r * outputs + out };
                f64::from(t[(token * LOW_T.stride + column + r) as usize]) * f64::from(m[at as usize])
            };
            (0..LOW_RANK).map(term).sum()
        };
        let values = (0..tokens * outputs).map(|i| value(i / outputs, i % outputs)).collect();
        let parts = gpu.alloc(Pool::Activations, 4 << 20, "parts")?;
        Ok(Low { t: input(gpu, &t)?, m: weights_of(gpu, &m)?, bounds, parts, values })
    }

    fn rank(&self) -> LowRank<'_> {
        LowRank { t: &self.t, columns: LOW_T, m: &self.m, rank: LOW_RANK, bounds: self.bounds }
    }
}

/// `extreme`: in turn tokens with the largest numbers of f16, tokens of zeros, and tokens with numbers so small that
/// they are not normal; every fifth row of w is zero.
fn case_with(
    variant: Variant,
    tile: Option<usize>,
    ty: WeightType,
    rows: u32,
    cols: u32,
    tokens: u32,
    [bias, add, low, extreme]: [bool; 4],
) -> Case {
    case_of(variant, tile, ty, [rows, cols, tokens], [bias, add, low, extreme, false])
}

/// Every third token has a value of 1e7: kernels that round it to f16 must give what is no finite number there, so that
/// the answer ends with an error, and others what is right.
fn beyond_case(variant: Variant, tile: Option<usize>, ty: WeightType, shape: [u32; 3]) -> Case {
    case_of(variant, tile, ty, shape, [false, false, false, false, true])
}

fn case_of(
    variant: Variant,
    tile: Option<usize>,
    ty: WeightType,
    [rows, cols, tokens]: [u32; 3],
    [bias, add, low, extreme, beyond]: [bool; 5],
) -> Case {
    let extra = [
        (bias, " +bias"),
        (add, " +residual"),
        (low, " +adapters"),
        (extreme, " extreme"),
        (beyond, " beyond f16"),
    ];
    let extra = extra.map(|(on, s)| if on { s } else { "" }).concat();
    let tile_name = tile.map_or(String::new(), |t| format!("tile {t} "));
    let name = format!("{tile_name}rows {rows} cols {cols} tokens {tokens}{extra}");
    Case::new("matmul", variant.name(), name, tolerance(variant), move |gpu, oracle, seed| {
        if let Err(why) = variant.supports(gpu.caps(), ty, tokens) {
            return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols + tokens, seed);
        let mut bytes = random_blocks(ty, rows as usize, cols as usize, &mut rng);
        let mut x = rng.values((tokens * cols) as usize);
        if extreme {
            bytes.chunks_exact_mut(ty.row_bytes(cols as usize)).step_by(5).for_each(|row| row.fill(0));
            for (i, x) in x.chunks_exact_mut(cols as usize).enumerate() {
                match i % 3 {
                    // Sums of f16 do not hold these.
                    0 if variant == Variant::TiledF16 => x[3] = 250.0,
                    0 => x.iter_mut().step_by(89).for_each(|x| *x = 65_504.0f32.copysign(*x)),
                    1 => x.fill(0.0),
                    _ => x.iter_mut().step_by(7).for_each(|x| *x *= 1e-39),
                }
            }
        }
        if beyond {
            x.chunks_exact_mut(cols as usize).step_by(3).for_each(|x| x[3] = 1e7);
        }
        let (w, values) = weight_of(gpu, oracle, ty, rows, cols, &bytes)?;
        let b = rng.values(rows as usize);
        // With a residual, y is wider than the product, which goes to its middle.
        let (stride, column) = if add { (rows + 24, 16) } else { (rows, 0) };
        let before = rng.values((tokens * stride) as usize);
        let b_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&b), "bias")?;
        // Cooperative kernels take x in f16, too: every other tile.
        let format = match tile {
            Some(tile) if variant == Variant::Coop && tile % 2 == 1 => Format::F16,
            _ => tiles_of(gpu, variant),
        };
        let x_gpu = left_side(gpu, format, &x, cols)?;
        let y = Guarded::new(gpu, before.len(), add.then_some(&before[..]))?;
        let (q, meta) = quantize::bytes(x.len() as u64);
        let ints = Quantized {
            q: gpu.alloc(Pool::Activations, q, "integers")?,
            meta: gpu.alloc(Pool::Activations, meta, "scales")?,
        };
        let mut rec = Recorder::new(gpu);
        match variant {
            Variant::MatvecDot => {
                // What the integers stand for is what the product must be exact for; how far that is from
                // x is the quantiser's case.
                quantize::quantize(&mut rec, &x_gpu, &ints, tokens * cols)?;
                gpu.run(&rec.finish()?, None)?;
                rec = Recorder::new(gpu);
                x = quantize::cases::values(&gpu.read_vec(&ints.q)?, &gpu.read_vec(&ints.meta)?);
            }
            Variant::TiledDot => quantize::quantize8(&mut rec, &x_gpu, &ints, tokens * cols)?,
            _ => {}
        }
        let low = match low {
            true => Some(Low::new(gpu, Direction::Forward, rows, tokens, 1.0, &mut rng)?),
            false => None,
        };
        let epilogue = Epilogue {
            bias: bias.then_some(&b_gpu),
            add,
            low: low.as_ref().map(Low::rank),
            scratch: low.as_ref().map(|l| &l.parts),
            ..Epilogue::default()
        };
        let input = Input { x: &x_gpu, ints: Some(&ints), format };
        let out = (&y.slice, Columns { stride, column });
        if variant.few() {
            linear_as(&mut rec, variant, &w, input, out, tokens, epilogue)?;
        } else {
            let kernel = kernel(gpu, variant, Direction::Forward, tile, (ty, rows), tokens);
            linear_with(&mut rec, kernel, &w, input, out, tokens, epilogue)?;
        }
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
        );
        if let Some(low) = &low {
            product.iter_mut().zip(&low.values).for_each(|(y, v)| *y += v);
        }
        let mut product = product.into_iter();
        let want: Vec<f64> = before
            .iter()
            .enumerate()
            .map(|(i, &v)| if inside(i) { product.next().unwrap() } else { f64::from(v) })
            .collect();
        if !extreme && !beyond {
            return y.compare(gpu, &want);
        }
        let halves = matches!(variant, Variant::Coop | Variant::TiledF16) || variant.tiles();
        // Token by token: one has values that would hide another's errors.
        let Some(got) = y.read(gpu)? else { return Ok(f64::INFINITY) };
        let tokens = got.chunks_exact(stride as usize).zip(want.chunks_exact(stride as usize));
        let error = |(i, (got, want)): (usize, (&[f32], &[f64]))| {
            if beyond && halves && i % 3 == 0 && !gpu.records_only() {
                return if got.iter().any(|g| g.is_finite()) { f64::INFINITY } else { 0.0 };
            }
            nmse(got, want)
        };
        Ok(tokens.enumerate().map(error).fold(0.0, f64::max))
    })
    .of_type(ty.name())
}

/// What the kernel takes its left side in, other than rows of f16.
fn tiles_of(gpu: &Gpu, variant: Variant) -> Format {
    match (variant, Coop::of(gpu.caps())) {
        (v, Some(coop)) if v.tiles() => Format::Tiles { side: coop.side },
        _ => Format::F32,
    }
}

/// x, rows of `cols`, in a format. What lies past the last row of a last tile is NaN.
fn left_side(gpu: &Gpu, format: Format, x: &[f32], cols: u32) -> Result<Slice> {
    let values = match format {
        Format::F32 => return input(gpu, x),
        Format::F16 => x.to_vec(),
        Format::Tiles { side } => {
            let mut whole = x.to_vec();
            whole.resize(x.len().next_multiple_of((side * cols) as usize), f32::NAN);
            tiles(&whole, cols as usize, side as usize)
        }
    };
    let half: Vec<u8> = values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    Ok(gpu.alloc_init(Pool::Activations, &half, "case input")?)
}

/// A residual product with the norm behind it, and with its parameters specialised, as a step of slots has it: where
/// the kernel is cooperative, workgroups share the first shape's sum.
fn normed_case(variant: Variant, ty: WeightType, rows: u32, cols: u32, tokens: u32) -> Case {
    let name = format!("rows {rows} cols {cols} tokens {tokens} +residual +norm");
    Case::new("matmul", variant.name(), name, tolerance(variant), move |gpu, oracle, seed| {
        if let Err(why) = variant.supports(gpu.caps(), ty, tokens) {
            return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
        }
        let mut rng = Rng::seeded(rows * cols + tokens, seed);
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let x = rng.values((tokens * cols) as usize);
        let (before, norm) = (rng.values((tokens * rows) as usize), rng.values(rows as usize));
        let norm_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&norm), "norm")?;
        let y = Guarded::new(gpu, before.len(), Some(&before))?;
        let n = Guarded::new(gpu, before.len(), None)?;
        let format = tiles_of(gpu, variant);
        let x_gpu = left_side(gpu, format, &x, cols)?;
        let scratch = gpu.alloc(Pool::Activations, before.len() as u64 * 4 * 8, "parts")?;
        let norm_to = Norm { w: &norm_gpu, eps: 1e-6, to: (&n.slice, Format::F32) };
        let (add, scratch, norm_to) = (true, Some(&scratch), Some(norm_to));
        let epilogue = Epilogue { add, scratch, specialised: true, norm: norm_to, ..Epilogue::default() };
        let mut rec = Recorder::new(gpu);
        let out = (&y.slice, Columns::all(rows));
        let input = Input { format, ..Input::f32(&x_gpu) };
        linear_as(&mut rec, variant, &w, input, out, tokens, epilogue)?;
        gpu.run(&rec.finish()?, None)?;
        let sums = super::reference::linear(&x, &values, cols as usize, None, Some(&before));
        let normed = rmsnorm::reference::rmsnorm_f64(&sums, &norm, f64::from(1e-6f32));
        Ok(y.compare(gpu, &sums)?.max(n.compare(gpu, &normed)?))
    })
    .of_type(ty.name())
}

/// A product as a link of a decode step. What it reads and writes in integers counts as what the integers
/// stand for, so that only the last bit of a rounding may differ.
fn chain_case(kind: ChainEpilogue, ty: WeightType, [tokens, rows, cols]: [u32; 3]) -> Case {
    let what = match kind {
        ChainEpilogue::Rows => "rms norm, bias",
        ChainEpilogue::Residual => "residual, integers and squares",
        ChainEpilogue::SwiGlu => "rms norm, swiglu, integers",
    };
    let name = format!("tokens {tokens} rows {rows} cols {cols}, {what}");
    Case::new("matmul", "chain", name, 1e-6, move |gpu, oracle, seed| {
        let mut rng = Rng::seeded(rows * cols, seed);
        let (w, weights) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        if let Err(why) = chain::supports(gpu.caps(), &w.shape, kind, tokens) {
            return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
        }
        let (x, norm) = (rng.values((tokens * cols) as usize), rng.values(cols as usize));
        let (x_gpu, norm_gpu) = (input(gpu, &x)?, weights_of(gpu, &norm)?);
        let (q, meta) = quantize::bytes_normed((tokens * cols).into());
        let ints = Quantized {
            q: gpu.alloc(Pool::Activations, q, "integers")?,
            meta: gpu.alloc(Pool::Activations, meta, "scales")?,
        };
        let eps = 1e-5;
        let normed = kind != ChainEpilogue::Residual;
        let mut rec = Recorder::new(gpu);
        match normed {
            true => quantize::normed(&mut rec, &x_gpu, &norm_gpu, &ints, [tokens, cols])?,
            false => quantize::quantize(&mut rec, &x_gpu, &ints, tokens * cols)?,
        }
        gpu.run(&rec.finish()?, None)?;
        let meta: Vec<f32> = gpu.read_vec(&ints.meta)?;
        let values = quantize::cases::values(&gpu.read_vec(&ints.q)?, &meta[..x.len() / 8]);
        let mut want = super::reference::linear(&values, &weights, cols as usize, None, None);
        for (y, x) in want.chunks_exact_mut(rows as usize).zip(x.chunks_exact(cols as usize)) {
            let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
            let scale = if normed { 1.0 / (squares / f64::from(cols) + f64::from(eps)).sqrt() } else { 1.0 };
            y.iter_mut().for_each(|v| *v *= scale);
        }

        // Outputs: f32 where there are, integers where there are.
        let residual = kind == ChainEpilogue::Residual;
        let before = rng.values((if residual { tokens * rows } else { rows }) as usize);
        let bias = weights_of(gpu, &before)?;
        let y = Guarded::new(gpu, want.len(), residual.then_some(&before[..]))?;
        let outputs = if kind == ChainEpilogue::SwiGlu { want.len() / 2 } else { want.len() };
        let (out_q, out_meta) = (
            Guarded::new(gpu, outputs.div_ceil(16) * 4, None)?,
            Guarded::new(gpu, outputs.div_ceil(16) * 3, None)?,
        );
        let out = Quantized { q: out_q.slice.clone(), meta: out_meta.slice.clone() };
        let next = rng.values(rows as usize);
        let next_gpu = weights_of(gpu, &next)?;
        let end = match kind {
            ChainEpilogue::Rows => {
                ChainOutput::Rows { y: &y.slice, columns: Columns::all(rows), bias: Some(&bias) }
            }
            ChainEpilogue::Residual => ChainOutput::Residual { h: &y.slice, norm: &next_gpu, out: &out },
            ChainEpilogue::SwiGlu => ChainOutput::SwiGlu { out: &out },
        };
        let mut rec = Recorder::new(gpu);
        chain::chained(&mut rec, &w, chain::Input { ints: &ints, tokens, norm: normed.then_some(eps) }, end)?;
        gpu.run(&rec.finish()?, None)?;
        if kind == ChainEpilogue::SwiGlu {
            let gated = |y: &[f64]| {
                let (gate, up) = y.split_at(y.len() / 2);
                gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect::<Vec<f64>>()
            };
            want = want.chunks_exact(rows as usize).flat_map(gated).collect();
        } else {
            // A bias is every token's.
            want.iter_mut().zip(before.iter().cycle()).for_each(|(v, &b)| *v += f64::from(b));
        }
        if kind == ChainEpilogue::Rows {
            return y.compare(gpu, &want);
        }
        let (Some(q), Some(meta)) = (out_q.read(gpu)?, out_meta.read(gpu)?) else { return Ok(f64::INFINITY) };
        let got = quantize::cases::values(bytemuck::cast_slice(&q), &meta[..outputs / 8]);
        if kind == ChainEpilogue::SwiGlu {
            let rounded =
                quantize::reference::quantize(&want.iter().map(|&v| v as f32).collect::<Vec<_>>()).0;
            return Ok(nmse(&got, &rounded));
        }
        let product: Vec<f32> = want.iter().zip(next.iter().cycle()).map(|(&h, &w)| h as f32 * w).collect();
        let rounded = quantize::reference::quantize(&product).0;
        let down = 2f64.powi(-40);
        let squares: Vec<f64> =
            want.chunks_exact(16).map(|c| c.iter().map(|v| v * v * down).sum::<f64>()).collect();
        let e = y.compare(gpu, &want)?;
        Ok(e.max(nmse(&got, &rounded)).max(nmse(&meta[outputs / 8..], &squares)))
    })
    .of_type(ty.name())
}

/// Rows of two types in one dispatch.
fn mixed_case(types: [WeightType; 2], rows: [u32; 2], [tokens, cols]: [u32; 2]) -> Case {
    let name =
        format!("tokens {tokens} rows {} and {} of {} cols {cols}, rms norm", rows[0], rows[1], types[1]);
    Case::new("matmul", "chain", name, 1e-6, move |gpu, oracle, seed| {
        let mut rng = Rng::seeded(rows[0] * cols, seed);
        let ([a, b], weights) = side_by_side(gpu, oracle, types, (rows, cols), &mut rng)?;
        let can = |w: &Weight| chain::supports(gpu.caps(), &w.shape, ChainEpilogue::Rows, tokens);
        if let Some(why) = [&a, &b].into_iter().find_map(|w| can(w).err()) {
            return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
        }
        let (x, norm) = (rng.values((tokens * cols) as usize), rng.values(cols as usize));
        let (q, meta) = quantize::bytes_normed((tokens * cols).into());
        let ints = Quantized {
            q: gpu.alloc(Pool::Activations, q, "integers")?,
            meta: gpu.alloc(Pool::Activations, meta, "scales")?,
        };
        let eps = 1e-5;
        let mut rec = Recorder::new(gpu);
        quantize::normed(&mut rec, &input(gpu, &x)?, &weights_of(gpu, &norm)?, &ints, [tokens, cols])?;
        let all = rows[0] + rows[1];
        let y = Guarded::new(gpu, (tokens * all) as usize, None)?;
        let from = chain::Input { ints: &ints, tokens, norm: Some(eps) };
        if !chain::chained_mixed(&mut rec, [&a, &b], from, &y.slice, all)? {
            return Ok(f64::INFINITY);
        }
        gpu.run(&rec.finish()?, None)?;
        let meta: Vec<f32> = gpu.read_vec(&ints.meta)?;
        let values = quantize::cases::values(&gpu.read_vec(&ints.q)?, &meta[..x.len() / 8]);
        let mut want = super::reference::linear(&values, &weights, cols as usize, None, None);
        for (y, x) in want.chunks_exact_mut(all as usize).zip(x.chunks_exact(cols as usize)) {
            let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
            let scale = 1.0 / (squares / f64::from(cols) + f64::from(eps)).sqrt();
            y.iter_mut().for_each(|v| *v *= scale);
        }
        y.compare(gpu, &want)
    })
    .of_type(types[0].name())
}

/// Two weights of these shapes next to each other in memory, and the values of both.
fn side_by_side(
    gpu: &Gpu,
    oracle: Oracle,
    types: [WeightType; 2],
    (rows, cols): ([u32; 2], u32),
    rng: &mut Rng,
) -> Result<([Weight; 2], Vec<f32>)> {
    let shape = |i: usize| WeightShape::new(types[i], rows[i], cols, gpu.budget());
    let shapes = [shape(0)?, shape(1)?];
    if shapes.iter().any(|s| s.slabs.len() > 1) {
        let what = "the matrices are cut into slabs".into();
        return Err(PlanError::Shape { op: "matmul", what }.into());
    }
    // Whatever the cases that run beside this one take from the pool.
    let ends = [shapes[0].slabs[0].bytes.next_multiple_of(gpu.budget().align), shapes[1].slabs[0].bytes];
    let place = gpu.alloc(Pool::Weights, ends[0] + ends[1], "case weights")?;
    let mut all = Vec::new();
    let mut at = |i: usize, offset| {
        let bytes = random_blocks(types[i], rows[i] as usize, cols as usize, rng);
        let mut values = vec![0.0; (rows[i] * cols) as usize];
        oracle(types[i], &bytes, &mut values);
        all.extend(values);
        let slices = vec![place.range(offset, shapes[i].slabs[0].bytes)];
        let weight = Weight { shape: shapes[i].clone(), slices };
        let _ = fill(gpu, &weight.pieces(&[&bytes]), &mut |_| ControlFlow::Continue(()))?;
        Ok::<_, crate::Error>(weight)
    };
    let weights = [at(0, 0)?, at(1, ends[0])?];
    Ok((weights, all))
}

/// Rows of two types in one dispatch of a few tokens, whose left side lies in tiles.
fn two_case(types: [WeightType; 2], rows: [u32; 2], [tokens, cols]: [u32; 2]) -> Case {
    let name = format!("tokens {tokens} rows {} and {} of {} cols {cols}", rows[0], rows[1], types[1]);
    Case::new("matmul", "sliced", name, tolerance(Variant::Sliced), move |gpu, oracle, seed| {
        for ty in types {
            if let Err(why) = Variant::Sliced.supports(gpu.caps(), ty, tokens) {
                return Err(PlanError::Shape { op: "matmul", what: why.into() }.into());
            }
        }
        let mut rng = Rng::seeded(rows[0] * cols, seed);
        let ([a, b], weights) = side_by_side(gpu, oracle, types, (rows, cols), &mut rng)?;
        let x = rng.values((tokens * cols) as usize);
        let format = tiles_of(gpu, Variant::Sliced);
        let on_gpu = left_side(gpu, format, &x, cols)?;
        let y = Guarded::new(gpu, (tokens * (rows[0] + rows[1])) as usize, None)?;
        let mut rec = Recorder::new(gpu);
        let from = Input { x: &on_gpu, ints: None, format };
        if !super::linear_two(&mut rec, [&a, &b], from, &y.slice, tokens)? {
            return Ok(f64::INFINITY);
        }
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::linear(&x, &weights, cols as usize, None, None))
    })
    .of_type(types[0].name())
}

fn weights_of(gpu: &Gpu, values: &[f32]) -> Result<Slice> {
    Ok(gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(values), "case weights")?)
}
