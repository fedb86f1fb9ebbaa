//! `weft kernels perf`.

use serde_json::json;
use weft_kernels::ops::Format;
use weft_kernels::ops::matmul::Matvec;
use weft_kernels::perf::ops::{self, Op};
use weft_kernels::perf::sweep::{self, Measured};
use weft_kernels::perf::{
    Attention, Effort, Product, all_tiles, attention, attention_cuts, attentions, copy_rate, matrix_rate,
    product, products,
};
use weft_kernels::{WeightType, registry};
use weft_runtime::{DeviceKind, Gpu};

use super::{Perf, with_device};
use crate::options::DeviceFlags;
use crate::{Error, Result, interrupt, output, report};

/// What is measured, and what the report says of it.
struct Row {
    op: &'static str,
    variant: &'static str,
    ty: &'static str,
    shape: String,
    /// How it is split, where that is more than the variant says.
    tile: String,
    /// Type of the activations.
    x: &'static str,
    bytes: f64,
    flops: f64,
    what: What,
}

enum What {
    Product(Product),
    Attention(Attention),
    Op(Op),
}

impl Row {
    fn product(p: Product) -> Row {
        Row {
            op: p.direction.op(),
            variant: p.variant.name(),
            ty: p.ty.name(),
            shape: format!("{} x {} x {}", p.rows, p.cols, p.tokens),
            tile: p.kernel.map(|k| k.tile_name()).unwrap_or_default(),
            x: if p.x == Format::F16 { "f16" } else { "f32" },
            bytes: p.bytes(),
            flops: p.flops(),
            what: What::Product(p),
        }
    }

    fn attention(a: Attention) -> Row {
        Row {
            op: a.op(),
            variant: a.variant(),
            ty: a.ty.name(),
            shape: a.shape(),
            tile: a.split(),
            x: "f32",
            bytes: a.bytes(),
            flops: a.flops(),
            what: What::Attention(a),
        }
    }

    fn op(o: Op) -> Row {
        let ty = o.ty.unwrap_or("f32");
        let (op, variant, shape, bytes, flops) = (o.op, o.variant, o.shape.clone(), o.bytes, o.flops);
        Row { op, variant, ty, shape, tile: String::new(), x: "f32", bytes, flops, what: What::Op(o) }
    }

    /// Seconds and a tuned kernel's constants, or why the device cannot do it.
    fn measure(&self, gpu: &Gpu, effort: &Effort) -> Result<Timed> {
        let measured = match &self.what {
            What::Product(p) => product(gpu, effort, p),
            What::Attention(a) => attention(gpu, effort, a).map(|s| (s, None)),
            What::Op(o) => ops::measure(gpu, effort, o).map(|s| (s, None)),
        };
        match measured {
            Ok(timed) => Ok(Ok(timed)),
            // A device that is too small for one row of the table is not too small for the next.
            Err(e @ weft_kernels::Error::Plan(_)) => Ok(Err(e.to_string())),
            Err(weft_kernels::Error::Gpu(
                e @ (weft_runtime::Error::OutOfMemory { .. } | weft_runtime::Error::BufferTooLarge { .. }),
            )) => Ok(Err(e.to_string())),
            Err(e) => Err(weft_models::Error::from(e).into()),
        }
    }

    /// A row of the JSON report; `best` is what the device copies and multiplies in a second.
    fn json(&self, timed: &Timed, best: &Best) -> serde_json::Value {
        let (seconds, constants) = match timed {
            Ok((seconds, constants)) => (Some(*seconds), constants.map(constants_json)),
            Err(_) => (None, None),
        };
        json!({
            "op": self.op,
            "tile": self.tile,
            "x": self.x,
            "variant": self.variant,
            "type": self.ty,
            "shape": self.shape,
            "seconds": seconds,
            "constants": constants,
            "bytes_per_s": seconds.map(|s| self.bytes / s),
            "flops_per_s": seconds.map(|s| self.flops / s),
            "of_copy": seconds.map(|s| self.bytes / s / best.copy),
            "of_matrix": seconds.map(|s| self.flops / s / best.matrix),
            "unsupported": timed.as_ref().err(),
        })
    }

    /// A row of the table.
    fn line(&self, timed: Timed, best: &Best) -> String {
        let Row { op, variant, ty, shape, tile, x, bytes, flops, .. } = self;
        match timed {
            Ok((s, c)) => format!(
                "{op:<18} {variant:<11} {ty:<8} {shape:>29} {:>11.2} {:>9.1} {:>5.1}% {:>10.1} {:>5.1}%  {tile}{}{}",
                s * 1e6,
                bytes / s / 1e9,
                100.0 * bytes / s / best.copy,
                flops / s / 1e9,
                100.0 * flops / s / best.matrix,
                if *x == "f16" { " x f16" } else { "" },
                c.map(constants_text).unwrap_or_default(),
            ),
            Err(why) => format!("{op:<18} {variant:<11} {ty:<8} {shape:>29} unsupported: {why}"),
        }
    }
}

/// Seconds and a tuned kernel's constants, or why the device cannot do it.
type Timed = std::result::Result<(f64, Option<Matvec>), String>;

/// The best that the device does.
struct Best {
    /// Bytes that a copy reads and writes in a second.
    copy: f64,
    /// Operations of the fastest product in a second, and what that is.
    matrix: f64,
    fastest: Product,
}

impl Best {
    fn measure(gpu: &Gpu, effort: &Effort) -> Result<Best> {
        let copy = copy_rate(gpu, effort).map_err(weft_models::Error::from)?;
        let (matrix, fastest) = matrix_rate(gpu, effort).map_err(weft_models::Error::from)?;
        Ok(Best { copy, matrix, fastest })
    }

    /// What stands above the table.
    fn print(&self, gpu: &Gpu, side: u32) -> Result<()> {
        let Best { copy, matrix, fastest } = self;
        output::line(&report::device_line(gpu.caps()))?;
        let (copy, matrix) = (copy / 1e9, matrix / 1e9);
        output::line(&format!("a copy reads and writes {copy:.1} GB/s"))?;
        output::line(&format!(
            "{} {} of side {side} does {matrix:.1} GFLOP/s",
            fastest.ty,
            fastest.variant.name()
        ))?;
        output::line(&format!(
            "\n{:<18} {:<11} {:<8} {:>29} {:>11} {:>9} {:>6} {:>10} {:>6}  tile",
            "op", "variant", "type", "shape", "us", "GB/s", "copy", "GFLOP/s", "best"
        ))
    }
}

/// Types of weights that a server measures where it is not asked for all.
const TYPES: [&str; 5] = ["f16", "q8_0", "q6_k", "q4_k", "q4_0"];

/// What `weft kernels perf` measures, for a server; tells `told` of each kernel.
///
/// # Errors
/// A fault of the device, or what `told` gives.
pub(in crate::cmd) fn roofline(
    device: &DeviceFlags,
    thorough: bool,
    told: &mut dyn FnMut(&str, u64, u64) -> Result<()>,
) -> Result<serde_json::Value> {
    let gpu = super::open(&super::all(), device)?;
    let kind = gpu.caps().kind;
    let effort = Effort::of(kind, !thorough);
    let deepest = if kind == DeviceKind::Cpu { 256 } else { u32::MAX };
    let asked =
        |r: &Row| thorough || !WeightType::ALL.iter().any(|t| t.name() == r.ty) || TYPES.contains(&r.ty);
    let products = products(effort.side).into_iter().map(Row::product);
    let rows = products.chain(attentions(gpu.caps(), deepest).into_iter().map(Row::attention));
    let rows: Vec<Row> = rows.chain(ops::ops(kind).into_iter().map(Row::op)).filter(asked).collect();
    let total = rows.len() as u64;
    told("the device's own ceilings", 0, total)?;
    let best = Best::measure(&gpu, &effort)?;
    let mut all = Vec::new();
    for row in &rows {
        told(&format!("{} {}", row.op, row.ty), 0, total)?;
        let timed = row.measure(&gpu, &effort)?;
        if timed.is_ok() {
            all.push(row.json(&timed, &best));
        }
        told(row.op, 1, total)?;
    }
    Ok(json!({
        "copy_bytes_per_s": best.copy, "matrix_flops_per_s": best.matrix,
        "fastest": format!("{} {}", best.fastest.ty, best.fastest.variant.name()), "rows": all,
        "unsupported": rows.len() - all.len(),
    }))
}

pub(super) fn run(f: &Perf) -> Result<()> {
    // Only to refuse what nothing is called.
    f.choice.of(registry::cases())?;
    let gpu = super::open(&f.choice, &f.device)?;
    if f.sweep {
        return sweep(f, &gpu, &Effort::of(gpu.caps().kind, f.quick));
    }
    let effort = match f.tiles {
        true => Effort::of_tiles(gpu.caps().kind, f.quick),
        false => Effort::of(gpu.caps().kind, f.quick),
    };
    // Attention comes in cuts and depths of its own.
    let deepest = if gpu.caps().kind == DeviceKind::Cpu { 256 } else { u32::MAX };
    let (products, attentions) = match f.tiles {
        true => (all_tiles(&gpu, effort.side), attention_cuts(deepest)),
        false => (products(effort.side), attentions(gpu.caps(), deepest)),
    };
    let others = if f.tiles { Vec::new() } else { ops::ops(gpu.caps().kind) };
    let rows = products.into_iter().map(Row::product).chain(attentions.into_iter().map(Row::attention));
    let rows = rows.chain(others.into_iter().map(Row::op));
    let all: Vec<Row> = rows.filter(|r| f.choice.takes((r.op, r.variant, Some(r.ty)))).collect();
    if all.is_empty() {
        return Err(Error::usage(
            "this op is not measured with this type and variant (see `weft kernels perf`)",
        ));
    }

    let best = Best::measure(&gpu, &effort)?;
    if !f.json {
        best.print(&gpu, effort.side)?;
    }
    let bar = output::bar(all.len() as u64, "{bar:30} {pos} of {len}, {msg}");
    let mut rows = Vec::new();
    for p in &all {
        if interrupt::asked() {
            bar.finish_and_clear();
            return Err(Error::Interrupted);
        }
        bar.set_message(p.ty);
        let timed = p.measure(&gpu, &effort)?;
        bar.inc(1);
        match f.json {
            true => rows.push(p.json(&timed, &best)),
            false => bar.suspend(|| output::line(&p.line(timed, &best)))?,
        }
    }
    bar.finish_and_clear();
    if !f.json {
        return Ok(());
    }
    output::json(&with_device(
        &gpu,
        json!({
            "copy_bytes_per_s": best.copy,
            "matrix_flops_per_s": best.matrix,
            "matrix_variant": best.fastest.variant.name(),
            "rows": rows,
        }),
    ))
}

fn constants_json(c: Matvec) -> serde_json::Value {
    json!({ "wg": c.wg, "lanes": c.lanes, "rows": c.rows, "steps": c.steps })
}

fn constants_text(c: Matvec) -> String {
    format!("{} l{} r{} s{}", c.wg, c.lanes, c.rows, c.steps)
}

/// The best constants of each matvec, among others that do not wait for it and in a chain; with `--json`
/// all of them.
fn sweep(f: &Perf, gpu: &Gpu, effort: &Effort) -> Result<()> {
    let chosen: Vec<Product> = sweep::products()
        .into_iter()
        .filter(|p| f.choice.takes(("matmul", p.variant.name(), Some(p.ty.name()))))
        .collect();
    let copy = copy_rate(gpu, effort).map_err(weft_models::Error::from)?;
    if !f.json {
        output::line(&report::device_line(gpu.caps()))?;
        output::line(&format!("a copy reads and writes {:.1} GB/s", copy / 1e9))?;
        output::line(
            "type     outputs x in        us  copy  constants, apart    us  copy  constants, chained",
        )?;
    }
    let mut rows = Vec::new();
    let mut failed = None;
    let measured = sweep::sweep(gpu, effort, &chosen, &mut |all| {
        if interrupt::asked() {
            failed = Some(Error::Interrupted);
            return std::ops::ControlFlow::Break(());
        }
        if f.json {
            rows.extend(all.iter().map(|m| {
                json!({
                    "variant": m.product.variant.name(),
                    "type": m.product.ty.name(),
                    "rows": m.product.rows,
                    "cols": m.product.cols,
                    "constants": constants_json(m.constants),
                    "independent_s": m.independent,
                    "dependent_s": m.dependent,
                })
            }));
            return std::ops::ControlFlow::Continue(());
        }
        let best = |time: fn(&Measured) -> f64| {
            let m = all.iter().min_by(|a, b| time(a).total_cmp(&time(b))).expect("one candidate");
            let percent = 100.0 * m.product.bytes() / time(m) / copy;
            format!("{:>9.2} {percent:>5.1}%  {:<16}", time(m) * 1e6, constants_text(m.constants))
        };
        let p = all[0].product;
        let shape = format!("{} x {}", p.rows, p.cols);
        let (apart, chained) = (best(|m| m.independent), best(|m| m.dependent));
        match output::line(&format!("{:<8} {shape:>14} {apart} {chained}", p.ty.name())) {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                std::ops::ControlFlow::Break(())
            }
        }
    });
    measured.map_err(weft_models::Error::from)?;
    match failed {
        Some(e) => Err(e),
        None if f.json => output::json(&with_device(gpu, json!({ "copy_bytes_per_s": copy, "rows": rows }))),
        None => Ok(()),
    }
}
