//! `weft kernels support`: the capability matrix.

use std::path::Path;

use serde_json::{Value, json};
use weft_kernels::registry::{self, Outcome};
use weft_runtime::{Caps, DeviceKind, Gpu};

use super::{Support, run_cases, with_device};
use crate::{Error, Result, output, report};

/// A cell of the matrix on one device.
struct Answer {
    op: String,
    variant: String,
    ty: String,
    /// `yes`, or why not.
    says: String,
}

impl Answer {
    fn is(&self, other: &Answer) -> bool {
        (&self.op, &self.variant, &self.ty) == (&other.op, &other.variant, &other.ty)
    }
}

const YES: &str = "yes";

/// What stands for the type of an op that has none.
const NO_TYPE: &str = "f32";

pub(super) fn run(f: &Support) -> Result<()> {
    let cases = registry::quick(f.choice.of(registry::cases())?);
    let others: Vec<_> = f.also.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let gpu = pollster::block_on(Gpu::open(&f.device.options()))?;
    let here = answers(f, &gpu, &cases)?;
    if f.json {
        let cells: Vec<_> = here
            .iter()
            .map(|a| json!({ "op": a.op, "variant": a.variant, "type": a.ty, "supported": a.says }))
            .collect();
        return output::json(&with_device(&gpu, json!({ "cells": cells })));
    }
    let mut devices = vec![(column(gpu.caps()), here)];
    devices.extend(others);
    match f.markdown {
        true => output::text(&markdown(&devices)),
        false => {
            output::line(&report::device_line(gpu.caps()))?;
            for row in rows(&devices) {
                let says = row.says.join(" | ");
                output::line(&format!("{:<10} {:<11} {says}: {}", row.op, row.variant, row.types.join(" ")))?;
            }
            Ok(())
        }
    }
}

/// What each cell says here: its cases run, and what no case is for is added.
fn answers(f: &Support, gpu: &Gpu, cases: &[registry::Case]) -> Result<Vec<Answer>> {
    let mut all: Vec<Answer> = Vec::new();
    let answer = |(op, variant, ty): registry::Cell, says: String| Answer {
        op: op.to_owned(),
        variant: variant.to_owned(),
        ty: ty.unwrap_or(NO_TYPE).to_owned(),
        says,
    };
    run_cases(gpu, cases, f.seed, |case, outcome| {
        let says = match outcome {
            Outcome::Passed(_) => YES.to_owned(),
            Outcome::Failed(nmse) => format!("WRONG, NMSE {nmse:.1e}: {}", case.name),
            Outcome::Error(e) => format!("FAILED: {}", crate::error::one_line(&e)),
            Outcome::Unsupported(why) => {
                format!("no: {}", why.strip_prefix(&format!("{}: ", case.op)).unwrap_or(&why))
            }
        };
        let new = answer(case.cell(), says);
        match all.iter_mut().find(|a| a.is(&new)) {
            None => all.push(new),
            // One fault spoils a cell; a shape that has no plan is named.
            Some(a) if a.says == YES && new.says != YES => {
                a.says = match new.says.strip_prefix("no: ") {
                    Some(why) => format!("in part: {why} ({})", case.name),
                    None => new.says,
                };
            }
            Some(a) if a.says.starts_with("no: ") && new.says == YES => {
                a.says = a.says.replacen("no: ", "in part: ", 1);
            }
            Some(_) => {}
        }
        Ok(())
    })?;
    let absent = registry::absent(gpu).into_iter().filter(|(cell, _)| f.choice.takes(*cell));
    all.extend(absent.map(|(cell, why)| answer(cell, format!("no: {why}"))));
    Ok(all)
}

/// A device's name for the head of a column.
fn column(caps: &Caps) -> String {
    let software = if caps.kind == DeviceKind::Cpu { ", on the CPU" } else { "" };
    let driver = caps.driver.split(" (").next().unwrap_or_default();
    let name = caps.name.split(" (").next().unwrap_or_default();
    if driver.contains(name) { format!("{driver}{software}") } else { format!("{name}, {driver}{software}") }
}

/// A column from the report that another device printed.
fn read(path: &Path) -> Result<(String, Vec<Answer>)> {
    let bad = |what: &str| {
        Error::input(format!(
            "{}: {what}; expected what `weft kernels support --json` prints",
            path.display()
        ))
    };
    let report: Value =
        serde_json::from_str(&crate::options::read_text(path)?).map_err(|_| bad("not JSON"))?;
    let text = |v: &Value, key: &str| v[key].as_str().map(str::to_owned);
    let device = &report["device"];
    let name = text(device, "name").ok_or_else(|| bad("no device"))?;
    let name = match text(device, "driver") {
        Some(driver) if !driver.contains(&name) => format!("{name}, {driver}"),
        Some(driver) => driver,
        None => name,
    };
    let cells = report["cells"].as_array().ok_or_else(|| bad("no cells"))?;
    let answers = cells.iter().map(|c| {
        Some(Answer {
            op: text(c, "op")?,
            variant: text(c, "variant")?,
            ty: text(c, "type")?,
            says: text(c, "supported")?,
        })
    });
    Ok((name, answers.collect::<Option<_>>().ok_or_else(|| bad("a cell without a field"))?))
}

/// The types of an op's variant that have the same answers on all devices.
struct Row {
    op: String,
    variant: String,
    types: Vec<String>,
    says: Vec<String>,
}

fn rows(devices: &[(String, Vec<Answer>)]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for cell in &devices[0].1 {
        let says: Vec<String> = devices
            .iter()
            .map(|(_, all)| {
                all.iter().find(|a| a.is(cell)).map_or_else(|| "not run".to_owned(), |a| a.says.clone())
            })
            .collect();
        let same = |r: &&mut Row| r.op == cell.op && r.variant == cell.variant && r.says == says;
        match rows.iter_mut().find(same) {
            Some(row) => row.types.push(cell.ty.clone()),
            None => rows.push(Row {
                op: cell.op.clone(),
                variant: cell.variant.clone(),
                types: vec![cell.ty.clone()],
                says,
            }),
        }
    }
    // An op's variants together, in the order of the registry.
    let order: Vec<String> = rows.iter().map(|r| format!("{} {}", r.op, r.variant)).collect();
    let place = |r: &Row| order.iter().position(|o| *o == format!("{} {}", r.op, r.variant));
    let mut sorted: Vec<_> = rows.into_iter().map(|r| (place(&r), r)).collect();
    sorted.sort_by_key(|(place, _)| *place);
    sorted.into_iter().map(|(_, r)| r).collect()
}

fn markdown(devices: &[(String, Vec<Answer>)]) -> String {
    let mut text = String::from("| op | variant | types |");
    for (name, _) in devices {
        text += &format!(" {name} |");
    }
    text += &format!("\n|---|---|---|{}\n", "---|".repeat(devices.len()));
    for row in rows(devices) {
        let says = row.says.join(" | ");
        text += &format!("| {} | {} | {} | {says} |\n", row.op, row.variant, row.types.join(", "));
    }
    text
}
