//! Cases of the products by experts.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::{Experts, InputGradient, Left, Order, Product, Route, Variant, Weigh, matvec, reference};
use crate::ops::matmul::Input;
use crate::ops::quantize::{self, Quantized};
use crate::select::BASELINE;
use crate::testing::{Case, Gradient, Gradients, Guarded, Oracle, Rng, input, random_blocks};
use crate::{PlanError, Result, Weight, WeightShape, WeightType};

/// What a batch is like.
#[derive(Debug, Clone, Copy)]
struct Batch {
    tokens: u32,
    used: u32,
    experts: u32,
}

impl Batch {
    fn name(self) -> String {
        format!("tokens {} experts {} of {}", self.tokens, self.used, self.experts)
    }

    fn rng(self, seed: u64) -> Rng {
        Rng::seeded(self.tokens * self.experts + self.used, seed)
    }

    /// Experts of which one has about half of all choices and some have none.
    fn ids(self, rng: &mut Rng) -> Vec<u32> {
        let favourite = rng.below(self.experts as usize) as u32;
        let mut ids = Vec::new();
        for _ in 0..self.tokens {
            let mut of: Vec<u32> = Vec::new();
            while of.len() < self.used as usize {
                let other = rng.below(self.experts as usize) as u32;
                let e = if rng.below(2) == 0 { favourite } else { other / 2 * 2 };
                let e = if of.len() + 1 > self.experts.div_ceil(2) as usize { other } else { e };
                if !of.contains(&e) {
                    of.push(e);
                }
            }
            ids.extend(of);
        }
        ids
    }
}

const FEW: [Batch; 3] = [
    Batch { tokens: 1, used: 1, experts: 1 },
    Batch { tokens: 1, used: 3, experts: 12 },
    Batch { tokens: 5, used: 2, experts: 7 },
];

const MANY: [Batch; 3] = [
    Batch { tokens: 1, used: 2, experts: 5 },
    Batch { tokens: 45, used: 2, experts: 7 },
    Batch { tokens: 20, used: 3, experts: 12 },
];

/// One choice, experts that nobody asks for, one that half of them ask for, numbers of experts that are no power of two,
/// tiles that are full and such that are not, matrices cut between experts, rows that end within a tile.
pub fn cases() -> Vec<Case> {
    let sorts = [
        Batch { tokens: 1, used: 1, experts: 1 },
        Batch { tokens: 67, used: 3, experts: 12 },
        Batch { tokens: 700, used: 8, experts: 128 },
        Batch { tokens: 33, used: 4, experts: 512 },
    ];
    let mut all: Vec<Case> =
        sorts.into_iter().flat_map(|b| [32, 64].map(|side| sort_case(b, side))).collect();
    let lefts = [Left::Tokens, Left::Tokens, Left::Positions];
    for &ty in WeightType::ALL {
        // All of them where blocks are few, large and none; of any other type, whose fragment is the same in other
        // ops, one.
        let every = matches!(ty, WeightType::F32 | WeightType::Q4_0 | WeightType::Q4_K);
        let turn = |(at, _): &(usize, _)| every || at % 3 == ty as usize % 3;
        for variant in [Variant::Matvec, Variant::MatvecDot] {
            if variant == Variant::Matvec || ty.layout().has_ints() {
                let few = FEW.into_iter().zip(lefts).enumerate().filter(turn);
                all.extend(few.map(|(_, (b, left))| product_case(variant, ty, b, (left, 0))));
            }
        }
        // Every side in some type; small ones compile soon.
        let side = if ty == WeightType::Q4_K { 128 } else { 32 };
        let many = || MANY.into_iter().zip(lefts).enumerate().filter(turn);
        all.extend(many().map(|(_, (b, left))| product_case(Variant::Tiled, ty, b, (left, side))));
        all.extend(many().map(|(_, (b, left))| gradient_case(ty, b, (left, side))));
    }
    all.push(product_case(Variant::Tiled, WeightType::Q8_0, MANY[1], (Left::Tokens, 64)));
    all.push(gradient_case(WeightType::Q8_0, MANY[1], (Left::Tokens, 64)));
    for b in [FEW[0], FEW[2], MANY[1], MANY[2]] {
        all.extend([true, false].map(|sorted| combine_case(b, sorted, true)));
        all.push(combine_case(b, true, false));
        all.push(weigh_case(b));
        all.extend(
            [(true, Left::Positions), (false, Left::Positions), (true, Left::Tokens)]
                .map(|way| imatrix_case(b, way)),
        );
    }
    all
}

/// An order in memory of its own.
fn order_of(gpu: &Gpu, b: Batch, side: u32) -> Result<Order> {
    let choices = b.tokens * b.used;
    let alloc = |bytes: u64| gpu.alloc(Pool::Activations, bytes, "case order");
    let tiles = u64::from(super::sort::most_tiles(choices, b.experts, side)) * 16;
    let list = u64::from(choices) * 4;
    Ok(Order { tokens: alloc(list)?, position: alloc(list)?, tiles: alloc(tiles)?, side })
}

fn ids_of(gpu: &Gpu, ids: &[u32]) -> Result<Slice> {
    Ok(gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(ids), "ids")?)
}

fn sort_case(b: Batch, side: u32) -> Case {
    let name = format!("{} side {side}", b.name());
    Case::new("experts_sort", BASELINE, name, 0.0, move |gpu, _, seed| {
        let mut rng = b.rng(seed);
        let ids = b.ids(&mut rng);
        let most = super::sort::most_tiles(ids.len() as u32, b.experts, side) as usize;
        let lists = [ids.len(), ids.len(), most * 4].map(|n| Guarded::new(gpu, n, None));
        let [tokens, position, tiles] = lists;
        let (tokens, position, tiles) = (tokens?, position?, tiles?);
        let order = Order {
            tokens: tokens.slice.clone(),
            position: position.slice.clone(),
            tiles: tiles.slice.clone(),
            side,
        };
        let mut rec = Recorder::new(gpu);
        order.record(&mut rec, &ids_of(gpu, &ids)?, [b.tokens, b.used, b.experts])?;
        gpu.run(&rec.finish()?, None)?;
        let choices = reference::order(&ids);
        let want_tokens: Vec<u32> = choices.iter().map(|&s| s as u32 / b.used).collect();
        let mut want_position = vec![0; ids.len()];
        (0..).zip(&choices).for_each(|(at, &s)| want_position[s] = at);
        let mut want_tiles: Vec<u32> = Vec::new();
        let mut first = 0;
        for e in 0..b.experts {
            let end = first + ids.iter().filter(|&&id| id == e).count() as u32;
            for at in (first..end).step_by(side as usize) {
                want_tiles.extend([e, at, end.min(at + side), 0]);
            }
            first = end;
        }
        want_tiles.resize(most * 4, 0);
        let pairs = [(tokens, want_tokens), (position, want_position), (tiles, want_tiles)];
        for (got, want) in pairs {
            if got.read(gpu)?.is_none_or(|got| bytemuck::cast_slice::<f32, u32>(&got) != want) {
                return Ok(f64::INFINITY);
            }
        }
        Ok(0.0)
    })
}

/// Random matrices on the GPU and, dequantised, on the host. An expert of 72 rows of 256 fits any binding.
fn random_experts(
    gpu: &Gpu,
    oracle: Oracle,
    ty: WeightType,
    experts: u32,
    rng: &mut Rng,
) -> Result<(Experts, Vec<f32>)> {
    let bytes = random_blocks(ty, (experts * ROWS) as usize, COLS as usize, rng);
    let mut values = vec![0.0; (experts * ROWS * COLS) as usize];
    oracle(ty, &bytes, &mut values);
    let shape = WeightShape::experts(ty, [experts, ROWS, COLS], gpu.budget())?;
    assert!(shape.slabs.iter().all(|s| s.rows.start.is_multiple_of(ROWS)), "cut between experts");
    Ok((Experts { weight: Weight::upload(gpu, shape, &[&bytes], "case experts")?, rows: ROWS }, values))
}

const ROWS: u32 = 72;
const COLS: u32 = 256;

/// The rows of x that choices have, in the order of positions.
fn rows_at(x: &[f32], choices: &[usize], left: Left, used: u32, width: u32) -> Vec<f32> {
    let row = |(at, &s): (usize, &usize)| match left {
        Left::Tokens => s / used as usize,
        Left::Positions => at,
    };
    let width = width as usize;
    choices.iter().enumerate().map(row).flat_map(|r| x[r * width..][..width].to_vec()).collect()
}

fn product_case(variant: Variant, ty: WeightType, b: Batch, (left, side): (Left, u32)) -> Case {
    let tile = if side > 0 { format!(" side {side}") } else { String::new() };
    let name = format!("{} rows {ROWS} cols {COLS}, rows of {left:?}{tile}", b.name());
    Case::new("experts", variant.name(), name, 1e-6, move |gpu, oracle, seed| {
        if let Err(why) = variant.supports(gpu.caps(), ty) {
            return Err(PlanError::Shape { op: "experts", what: why.into() }.into());
        }
        let mut rng = b.rng(seed);
        let ids = b.ids(&mut rng);
        let (experts, w) = random_experts(gpu, oracle, ty, b.experts, &mut rng)?;
        let inputs = if left == Left::Tokens { b.tokens } else { b.tokens * b.used };
        let mut x = rng.values((inputs * COLS) as usize);
        let x_gpu = input(gpu, &x)?;
        let (q, meta) = quantize::bytes(x.len() as u64);
        let ints = Quantized {
            q: gpu.alloc(Pool::Activations, q, "integers")?,
            meta: gpu.alloc(Pool::Activations, meta, "scales")?,
        };
        let mut rec = Recorder::new(gpu);
        if variant == Variant::MatvecDot {
            // What the integers stand for is what the product must be exact for.
            quantize::quantize(&mut rec, &x_gpu, &ints, inputs * COLS)?;
            gpu.run(&rec.finish()?, None)?;
            rec = Recorder::new(gpu);
            x = quantize::cases::values(&gpu.read_vec(&ints.q)?, &gpu.read_vec(&ints.meta)?);
        }
        let ids_gpu = ids_of(gpu, &ids)?;
        let order = order_of(gpu, b, side.max(32))?;
        let sorted = variant == Variant::Tiled;
        if sorted {
            order.record(&mut rec, &ids_gpu, [b.tokens, b.used, b.experts])?;
        }
        let order = sorted.then_some(&order);
        let route = Route { ids: &ids_gpu, tokens: b.tokens, used: b.used, order };
        let y = Guarded::new(gpu, ids.len() * ROWS as usize, None)?;
        let x_in = Input { ints: Some(&ints), ..Input::f32(&x_gpu) };
        let product = Product { experts: &experts, x: x_in, left, route, y: &y.slice };
        match sorted {
            true => product.record(&mut rec)?,
            false => matvec::record_as(&mut rec, variant, &product)?,
        }
        gpu.run(&rec.finish()?, None)?;
        let choices = if sorted { reference::order(&ids) } else { (0..ids.len()).collect() };
        let of: Vec<u32> = choices.iter().map(|&s| ids[s]).collect();
        let x = rows_at(&x, &choices, left, b.used, COLS);
        y.compare(gpu, &reference::product(&x, &of, &w, [ROWS as usize, COLS as usize]))
    })
    .of_type(ty.name())
}

fn gradient_case(ty: WeightType, b: Batch, (left, side): (Left, u32)) -> Case {
    let name = format!("{} rows {ROWS} cols {COLS}, rows of {left:?} side {side}", b.name());
    Case::backward("experts_dx", BASELINE, name, 1e-6, move |gpu, oracle, seed| {
        let mut rng = b.rng(seed);
        let ids = b.ids(&mut rng);
        let (experts, w) = random_experts(gpu, oracle, ty, b.experts, &mut rng)?;
        let inputs = if left == Left::Tokens { b.tokens } else { b.tokens * b.used };
        let dy = rng.values((inputs * ROWS) as usize);
        let ids_gpu = ids_of(gpu, &ids)?;
        let order = order_of(gpu, b, side)?;
        let mut rec = Recorder::new(gpu);
        order.record(&mut rec, &ids_gpu, [b.tokens, b.used, b.experts])?;
        let route = Route { ids: &ids_gpu, tokens: b.tokens, used: b.used, order: Some(&order) };
        let dx = Guarded::new(gpu, ids.len() * COLS as usize, None)?;
        let dy_gpu = input(gpu, &dy)?;
        let gradient = InputGradient { experts: &experts, dy: &dy_gpu, left, route, dx: &dx.slice };
        gradient.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let choices = reference::order(&ids);
        let of: Vec<u32> = choices.iter().map(|&s| ids[s]).collect();
        let dy = wide(&rows_at(&dy, &choices, left, b.used, ROWS));
        let shape = [ROWS as usize, COLS as usize];
        let x = wide(&rng.values(ids.len() * COLS as usize));
        let want = reference::input_gradient(&dy, &of, &w, shape);
        let gradients = vec![Gradient::read(gpu, x, &dx, want)?];
        let loss = move |x: &[&[f64]]| {
            reference::product(x[0], &of, &w, shape).iter().zip(&dy).map(|(y, d)| y * d).sum()
        };
        Ok(Gradients { of: gradients, loss: Box::new(loss) })
    })
    .of_type(ty.name())
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| v.into()).collect()
}

const WIDTH: u32 = 132;

fn combine_case(b: Batch, sorted: bool, weighted: bool) -> Case {
    let on = |on, name: &'static str| if on { name } else { "" };
    let name =
        format!("{} width {WIDTH}{}{}", b.name(), on(sorted, ", sorted"), on(weighted, ", weighted, added"));
    Case::new("experts_combine", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = b.rng(seed);
        let ids = b.ids(&mut rng);
        let y = rng.values(ids.len() * WIDTH as usize);
        let before = rng.values((b.tokens * WIDTH) as usize);
        let weights = if weighted { rng.values(ids.len()) } else { vec![1.0; ids.len()] };
        let ids_gpu = ids_of(gpu, &ids)?;
        let order = order_of(gpu, b, 32)?;
        let mut rec = Recorder::new(gpu);
        order.record(&mut rec, &ids_gpu, [b.tokens, b.used, b.experts])?;
        let order = sorted.then_some(&order);
        let route = Route { ids: &ids_gpu, tokens: b.tokens, used: b.used, order };
        let out = Guarded::new(gpu, before.len(), weighted.then_some(&before[..]))?;
        let weights_gpu = input(gpu, &weights)?;
        let given = weighted.then_some(&weights_gpu);
        super::combine(&mut rec, &input(gpu, &y)?, given, &route, (&out.slice, weighted), WIDTH)?;
        gpu.run(&rec.finish()?, None)?;
        let mut by_choice = wide(&y);
        if sorted {
            for (at, s) in reference::order(&ids).into_iter().enumerate() {
                let width = WIDTH as usize;
                by_choice[s * width..][..width].copy_from_slice(&wide(&y[at * width..][..width]));
            }
        }
        let mut want = reference::combine(&by_choice, &wide(&weights), b.used as usize, WIDTH as usize);
        if weighted {
            want.iter_mut().zip(&before).for_each(|(w, &b)| *w += f64::from(b));
        }
        out.compare(gpu, &want)
    })
}

/// What the sums hold before is about as large as what is added.
fn imatrix_case(b: Batch, (sorted, left): (bool, Left)) -> Case {
    let name = format!("{} width {WIDTH}, {left:?}{}", b.name(), if sorted { ", sorted" } else { "" });
    Case::new("experts_imatrix", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = b.rng(seed);
        let ids = b.ids(&mut rng);
        let rows = if left == Left::Tokens { b.tokens as usize } else { ids.len() };
        let x = rng.values(rows * WIDTH as usize);
        let before: Vec<f32> = (0..super::imatrix::sums(b.experts, WIDTH)).map(|i| (i % 7) as f32).collect();
        let ids_gpu = ids_of(gpu, &ids)?;
        let order = order_of(gpu, b, 32)?;
        let mut rec = Recorder::new(gpu);
        order.record(&mut rec, &ids_gpu, [b.tokens, b.used, b.experts])?;
        let route = Route { ids: &ids_gpu, tokens: b.tokens, used: b.used, order: sorted.then_some(&order) };
        let s = Guarded::new(gpu, before.len(), Some(&before))?;
        let shape = [b.experts, WIDTH];
        super::imatrix::accumulate(&mut rec, (&input(gpu, &x)?, left), &s.slice, &route, shape)?;
        gpu.run(&rec.finish()?, None)?;
        // The row of x that each choice has.
        let mut row_of: Vec<usize> = (0..ids.len()).map(|s| s / (ids.len() / rows)).collect();
        if sorted && left == Left::Positions {
            reference::order(&ids).into_iter().enumerate().for_each(|(at, s)| row_of[s] = at);
        }
        s.compare(gpu, &reference::imatrix(&x, &ids, &row_of, &before, WIDTH as usize))
    })
}

/// The loss is the sum of weights times h times a given g, by which the gradients of both are known.
fn weigh_case(b: Batch) -> Case {
    let name = format!("{} width {WIDTH}", b.name());
    Case::backward("experts_combine_backward", BASELINE, name, 1e-6, move |gpu, _, seed| {
        let mut rng = b.rng(seed);
        let ids = b.ids(&mut rng);
        let n = ids.len() * WIDTH as usize;
        let (h, g, weights) = (rng.values(n), rng.values(n), rng.values(ids.len()));
        let ids_gpu = ids_of(gpu, &ids)?;
        let order = order_of(gpu, b, 32)?;
        let mut rec = Recorder::new(gpu);
        order.record(&mut rec, &ids_gpu, [b.tokens, b.used, b.experts])?;
        let route = Route { ids: &ids_gpu, tokens: b.tokens, used: b.used, order: Some(&order) };
        let (dh, dw) = (Guarded::new(gpu, n, Some(&g))?, Guarded::new(gpu, ids.len(), None)?);
        let (h_gpu, w_gpu) = (input(gpu, &h)?, input(gpu, &weights)?);
        let of = Weigh { h: &h_gpu, g: &dh.slice, weights: &w_gpu, dw: &dw.slice };
        super::weigh(&mut rec, of, &route, WIDTH)?;
        gpu.run(&rec.finish()?, None)?;
        let (h, g, weights, choices) = (wide(&h), wide(&g), wide(&weights), reference::order(&ids));
        // By position, as h and g are.
        let rows = |v: &[f64]| v.chunks_exact(WIDTH as usize).map(<[f64]>::to_vec).collect::<Vec<_>>();
        let mut want_dw = vec![0.0; ids.len()];
        let mut want_dh = Vec::new();
        for ((h, g), &s) in rows(&h).iter().zip(rows(&g)).zip(&choices) {
            want_dw[s] = h.iter().zip(&g).map(|(h, g)| h * g).sum();
            want_dh.extend(g.iter().map(|g| g * weights[s]));
        }
        let gradients =
            vec![Gradient::read(gpu, h, &dh, want_dh)?, Gradient::read(gpu, weights, &dw, want_dw)?];
        let loss = move |x: &[&[f64]]| {
            let each = x[0].chunks_exact(WIDTH as usize).zip(g.chunks_exact(WIDTH as usize)).zip(&choices);
            each.map(|((h, g), &s)| x[1][s] * h.iter().zip(g).map(|(h, g)| h * g).sum::<f64>()).sum()
        };
        Ok(Gradients { of: gradients, loss: Box::new(loss) })
    })
}
