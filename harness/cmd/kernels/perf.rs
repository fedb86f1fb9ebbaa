//! `weft kernels perf`.

use serde_json::json;
use weft_kernels::ops::matmul::Format;
use weft_kernels::perf::{Effort, Product, copy_rate, matrix_rate, product, products, tiles};
use weft_kernels::registry;
use weft_runtime::Gpu;

use super::{Perf, with_device};
use crate::{Error, Result, interrupt, output, report};

pub(super) fn run(f: &Perf) -> Result<()> {
    // Only to refuse what nothing is called.
    f.choice.of(registry::cases())?;
    let gpu = pollster::block_on(Gpu::open(&f.device.options()))?;
    let effort = match f.tiles {
        true => Effort::of_tiles(gpu.caps().kind, f.quick),
        false => Effort::of(gpu.caps().kind, f.quick),
    };
    let all = if f.tiles { tiles(&gpu, effort.side) } else { products(effort.side) };
    let all: Vec<Product> = all
        .into_iter()
        .filter(|p| f.choice.takes((p.direction.op(), p.variant.name(), Some(p.ty.name()))))
        .collect();
    if all.is_empty() {
        return Err(Error::input("nothing of this is measured: perf knows matmul and matmul_dx only"));
    }

    let copy = copy_rate(&gpu, &effort).map_err(weft_models::Error::from)?;
    let (matrix, fastest) = matrix_rate(&gpu, &effort).map_err(weft_models::Error::from)?;
    if !f.json {
        output::line(&report::device_line(gpu.caps()))?;
        let (copy, matrix) = (copy / 1e9, matrix / 1e9);
        output::line(&format!("a copy reads and writes {copy:.1} GB/s"))?;
        output::line(&format!("F16 {} of side {} does {matrix:.1} GFLOP/s", fastest.name(), effort.side))?;
        output::line(&format!(
            "\n{:<9} {:<11} {:<8} {:>19} {:>11} {:>9} {:>6} {:>10} {:>6}  tile",
            "op", "variant", "type", "outputs x in x n", "us", "GB/s", "copy", "GFLOP/s", "best"
        ))?;
    }
    let bar = output::bar(all.len() as u64, "{bar:30} {pos} of {len}, {msg}");
    let mut rows = Vec::new();
    for p in &all {
        if interrupt::asked() {
            bar.finish_and_clear();
            return Err(Error::Interrupted);
        }
        bar.set_message(p.ty.name());
        let measured = match product(&gpu, &effort, p) {
            Ok(s) => Ok(s),
            // A device that is too small for one row of the table is not too small for the next.
            Err(e @ weft_kernels::Error::Plan(_)) => Err(e.to_string()),
            Err(weft_kernels::Error::Gpu(
                e @ (weft_runtime::Error::OutOfMemory { .. } | weft_runtime::Error::BufferTooLarge { .. }),
            )) => Err(e.to_string()),
            Err(e) => return Err(weft_models::Error::from(e).into()),
        };
        bar.inc(1);
        let (op, variant, ty) = (p.direction.op(), p.variant.name(), p.ty.name());
        let tile = p.kernel.map(|k| k.tile_name()).unwrap_or_default();
        let half = if p.x == Format::F16 { " x f16" } else { "" };
        let shape = format!("{} x {} x {}", p.rows, p.cols, p.tokens);
        let (bytes, flops) = (p.bytes(), p.flops());
        if f.json {
            let seconds = measured.as_ref().ok();
            rows.push(json!({
                "op": op,
                "tile": tile,
                "x": if p.x == Format::F16 { "f16" } else { "f32" },
                "variant": variant,
                "type": ty,
                "rows": p.rows,
                "cols": p.cols,
                "tokens": p.tokens,
                "seconds": seconds,
                "bytes_per_s": seconds.map(|s| bytes / s),
                "flops_per_s": seconds.map(|s| flops / s),
                "of_copy": seconds.map(|s| bytes / s / copy),
                "of_matrix": seconds.map(|s| flops / s / matrix),
                "unsupported": measured.as_ref().err(),
            }));
            continue;
        }
        let line = match measured {
            Ok(s) => format!(
                "{op:<9} {variant:<11} {ty:<8} {shape:>19} {:>11.2} {:>9.1} {:>5.1}% {:>10.1} {:>5.1}%  {tile}{half}",
                s * 1e6,
                bytes / s / 1e9,
                100.0 * bytes / s / copy,
                flops / s / 1e9,
                100.0 * flops / s / matrix,
            ),
            Err(why) => format!("{op:<9} {variant:<11} {ty:<8} {shape:>19} unsupported: {why}"),
        };
        bar.suspend(|| output::line(&line))?;
    }
    bar.finish_and_clear();
    if !f.json {
        return Ok(());
    }
    output::json(&with_device(
        &gpu,
        json!({
            "copy_bytes_per_s": copy,
            "matrix_flops_per_s": matrix,
            "matrix_variant": fastest.name(),
            "rows": rows,
        }),
    ))
}
