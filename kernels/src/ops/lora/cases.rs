//! Cases of the products of adapters.

use weft_runtime::{Gpu, Pool, Recorder, Slice};

use super::{Form, Matrix, Pass, PassShape, Shape, Window, grad_x, reference, up};
use crate::Result;
use crate::coop::Coop;
use crate::layout::{Columns, Format, tiles};
use crate::select::BASELINE;
use crate::testing::{Case, Gradient, Gradients, Guarded, Rng, input};

/// The ops in the order of a training step, and whether each reads x in f16 as well.
const OPS: [(&str, bool); 6] = [
    ("lora_down", true),
    ("lora_up", false),
    ("lora_grad_t", false),
    ("lora_grad_b", false),
    ("lora_grad_a", true),
    ("lora_grad_x", false),
];

/// A shape with where its columns lie among others, the narrow and the wide ones.
type Sizes = (u32, u32, u32, Columns, Columns);

/// One value, ranks that are no multiple of 4, windows of several adapters, widths of one invocation and
/// of many workgroups, more tokens than a tile and than one binding of the small budget.
fn shapes() -> Vec<Sizes> {
    let all = |tokens, rank, width| (tokens, rank, width, Columns::all(rank), Columns::all(width));
    let within = |stride, column| Columns { stride, column };
    vec![
        all(1, 1, 1),
        all(3, 17, 250),
        all(130, 4, 512),
        all(33, 8, 2048),
        all(70, 16, 1000),
        all(65, 64, 768),
        all(5, 64, 4096),
        (37, 16, 640, within(48, 16), within(1024, 256)),
        (37, 16, 320, within(49, 33), within(323, 3)),
        (300, 1, 64, within(3, 2), within(64, 0)),
    ]
}

/// Every op at every shape.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (op, half) in OPS {
        for at in shapes() {
            all.push(case(op, BASELINE, at, Format::F32));
            let (_, rank, width, narrow, wide) = at;
            let fours = [rank, width, narrow.stride].iter().all(|v| v.is_multiple_of(4));
            let coop = fours && !matches!(op, "lora_up" | "lora_grad_x");
            if coop {
                all.push(case(op, "coop", at, Format::F32));
            }
            // Rows are whole tiles of either side; the device says which it is.
            if coop && wide.stride.is_multiple_of(16) {
                all.push(case(op, "coop", at, Format::Tiles { side: 16 }).of_type("tiles"));
            }
            if half && fours && wide.stride == width {
                all.push(case(op, BASELINE, at, Format::F16).of_type("f16"));
                all.push(case(op, "coop", at, Format::F16).of_type("f16"));
            }
        }
    }
    all
}

fn case(
    op: &'static str,
    variant: &'static str,
    (tokens, rank, width, narrow, wide): Sizes,
    format: Format,
) -> Case {
    // x of A lies alone.
    let wide = match op {
        "lora_up" | "lora_grad_t" | "lora_grad_b" => wide,
        _ => Columns::all(width),
    };
    let name = format!(
        "tokens {tokens} rank {rank} at {} of {} width {width} at {} of {}",
        narrow.column, narrow.stride, wide.column, wide.stride
    );
    let run = move |gpu: &Gpu, seed: u64| -> Result<Gradients> {
        let mut rng = Rng::seeded(tokens * rank * width, seed);
        let shape = Shape { tokens, rank, width };
        let n = rng.values((tokens * narrow.stride) as usize);
        let mut w = rng.values((tokens * wide.stride) as usize);
        let m = rng.values((rank * width) as usize);
        let format = match (format, Coop::of(gpu.caps())) {
            (Format::Tiles { .. }, Some(coop)) => Format::Tiles { side: coop.side },
            _ => format,
        };
        if format != Format::F32 {
            w.iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
        }
        let run = |output: Output| -> Result<Option<(Vec<f32>, Vec<f32>)>> {
            let twice =
                [0; 2].map(|_| once(gpu, (op, variant), shape, (&n, narrow), (&w, wide, format), &m, output));
            let [first, second] = twice;
            // The same sums in the same order.
            Ok(first?.zip(second?))
        };
        let (dense_n, dense_w) = (dense(&n, narrow, rank), dense(&w, wide, width));
        let dense_m: Vec<f64> = m.iter().map(|&v| f64::from(v)).collect();
        let (r, c, scale) = (rank as usize, width as usize, f64::from(SCALE));
        let (output, want) = match op {
            "lora_down" => (Output::Narrow, scaled(reference::down(&dense_w, &dense_m, c))),
            "lora_up" => (Output::Wide, reference::up(&dense_n, &dense_m, r, scale)),
            "lora_grad_t" => (Output::Narrow, reference::grad_t(&dense_w, &dense_m, c, scale)),
            "lora_grad_b" => (Output::Matrix, reference::grad_b(&dense_w, &dense_n, c, scale)),
            "lora_grad_a" => (Output::Matrix, scaled(reference::grad_a(&dense_n, &dense_w, r))),
            _ => (Output::Wide, reference::grad_x(&dense_n, &dense_m, r)),
        };
        let (before, columns, part) = match output {
            Output::Narrow => (&n, narrow, rank),
            Output::Wide => (&w, wide, width),
            Output::Matrix => (&m, Columns::all(1), 1),
        };
        let inside = |i: usize| {
            let at = i as u32 % columns.stride;
            (columns.column..columns.column + part).contains(&at)
        };
        // What lies beside the columns stays; inside it is added to, but for what is overwritten.
        let got = run(output)?.filter(|(got, again)| {
            let same = got.iter().map(|v| v.to_bits()).eq(again.iter().map(|v| v.to_bits()));
            same && got.iter().zip(before.iter()).enumerate().all(|(i, (g, b))| inside(i) || g == b)
        });
        let narrowed = |(all, _): (Vec<f32>, _)| {
            all.into_iter().enumerate().filter(|(i, _)| inside(*i)).map(|(_, v)| v).collect()
        };
        let before = match output {
            Output::Narrow => vec![0.0; want.len()],
            _ => dense(before, columns, part),
        };
        let want = want.iter().zip(&before).map(|(v, b)| v + b).collect::<Vec<_>>();
        let x: Vec<f64> = rng.values(want.len()).into_iter().map(f64::from).collect();
        let of = vec![Gradient::new(x, got.map(narrowed), want)];
        let loss = move |x: &[&[f64]]| {
            let (y, d) = match op {
                "lora_grad_t" => (reference::up(x[0], &dense_m, r, scale), &dense_w),
                "lora_grad_b" => (reference::up(&dense_n, x[0], r, scale), &dense_w),
                "lora_grad_a" => (scaled(reference::down(&dense_w, x[0], c)), &dense_n),
                _ => (reference::down(x[0], &dense_m, c), &dense_n),
            };
            let direct: f64 = x[0].iter().zip(&before).map(|(x, b)| x * b).sum();
            direct + y.iter().zip(d).map(|(y, d)| y * d).sum::<f64>()
        };
        Ok(Gradients { of, loss: Box::new(loss) })
    };
    let tolerance = if variant == "coop" { 5e-4 } else { 1e-7 };
    match op {
        "lora_down" | "lora_up" => {
            Case::new(op, variant, name, tolerance, move |gpu, _, seed| Ok(run(gpu, seed)?.by_reference()))
        }
        _ => Case::backward(op, variant, name, tolerance, move |gpu, _, seed| run(gpu, seed)),
    }
}

const SCALE: f32 = 1.75;
const RANGE: f32 = 2.0;

fn halves(gpu: &Gpu, values: impl Iterator<Item = f32>) -> Result<Slice> {
    let bytes: Vec<u8> = values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect();
    Ok(gpu.alloc_init(Pool::Activations, &bytes, "case input")?)
}

fn scaled(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(|v| v * f64::from(SCALE)).collect()
}

/// Which operand a product writes.
#[derive(Clone, Copy, PartialEq)]
enum Output {
    Narrow,
    Wide,
    Matrix,
}

/// The columns themselves.
fn dense(values: &[f32], columns: Columns, n: u32) -> Vec<f64> {
    let rows = values.chunks_exact(columns.stride as usize);
    rows.flat_map(|r| &r[columns.column as usize..][..n as usize]).map(|&v| f64::from(v)).collect()
}

/// Runs the op; nothing where a sentinel changed.
fn once(
    gpu: &Gpu,
    (op, variant): (&str, &str),
    s: Shape,
    (n, narrow): (&[f32], Columns),
    (w, wide, format): (&[f32], Columns, Format),
    m: &[f32],
    output: Output,
) -> Result<Option<Vec<f32>>> {
    let values = match output {
        Output::Narrow => n,
        Output::Wide => w,
        Output::Matrix => m,
    };
    let mut initial = values.to_vec();
    if output == Output::Narrow {
        // What is overwritten is poisoned.
        for row in initial.chunks_exact_mut(narrow.stride as usize) {
            row[narrow.column as usize..][..s.rank as usize].fill(f32::NAN);
        }
    }
    let out = Guarded::new(gpu, initial.len(), Some(&initial))?;
    let n = if output == Output::Narrow { out.slice.clone() } else { input(gpu, n)? };
    let w = match (output, format) {
        (Output::Wide, _) => out.slice.clone(),
        (_, Format::F32) => input(gpu, w)?,
        (_, Format::F16) => halves(gpu, w.iter().copied())?,
        (_, Format::Tiles { side }) => {
            // It was multiplied where it was written, but for the operand beside a gradient. What lies past the last row
            // counts for nothing.
            let by = if op == "lora_grad_a" { 1.0 } else { RANGE };
            let mut whole: Vec<f32> = w.iter().map(|v| v * by).collect();
            whole.resize(w.len().next_multiple_of((side * wide.stride) as usize), f32::NAN);
            halves(gpu, tiles(&whole, wide.stride as usize, side as usize).into_iter())?
        }
    };
    let m = match output {
        Output::Matrix => out.slice.clone(),
        _ => gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(m), "case adapter")?,
    };
    let mut rec = Recorder::new(gpu);
    let scratch = gpu.alloc(Pool::Activations, 1 << 22, "parts")?;
    let windows = [Window { columns: wide, width: s.width }];
    let pass = |form, matrix| Pass {
        shape: PassShape { form, matrix, tokens: s.tokens, rank: s.rank, narrow, format, windows: &windows },
        narrow: &n,
        wide: &w,
        m: &m,
        scale: SCALE,
        range: RANGE,
        scratch: Some(&scratch),
    };
    match op {
        "lora_down" => pass(Form::Down, Matrix::A).record_as(&mut rec, variant)?,
        "lora_up" => up(&mut rec, (&n, narrow), &m, (&w, wide), SCALE, s)?,
        "lora_grad_t" => pass(Form::Down, Matrix::B).record_as(&mut rec, variant)?,
        "lora_grad_b" => pass(Form::Outer, Matrix::B).record_as(&mut rec, variant)?,
        "lora_grad_a" => pass(Form::Outer, Matrix::A).record_as(&mut rec, variant)?,
        _ => grad_x(&mut rec, (&n, narrow), &m, &w, s, true)?,
    }
    gpu.run(&rec.finish()?, None)?;
    out.read(gpu)
}
