//! `weft kernels support`: the capability matrix.

use std::path::Path;

use serde_json::{Value, json};
use weft_kernels::registry;
use weft_kernels::testing::{self, Outcome};
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
const PART: &str = "in part: ";
const WRONG: &str = "WRONG";

fn no(why: &str) -> String {
    if why.starts_with("no ") { why.to_owned() } else { format!("no: {why}") }
}

fn wrong(says: &str) -> bool {
    says.starts_with(WRONG)
}

/// What stands for the type of an op that has none.
const NO_TYPE: &str = "f32";

pub(super) fn run(f: &Support) -> Result<()> {
    let cases = testing::each_cell(f.choice.of(registry::cases())?);
    let others: Vec<_> = f.also.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let gpus = super::devices(&f.choice, &f.device)?;
    let gpu = &gpus[0];
    let here = answers(f, &gpus, &cases)?;
    if f.json {
        let cells: Vec<_> = here
            .iter()
            .map(|a| json!({ "op": a.op, "variant": a.variant, "type": a.ty, "supported": a.says }))
            .collect();
        return output::json(&with_device(gpu, json!({ "cells": cells })));
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
fn answers(f: &Support, gpus: &[Gpu], cases: &[testing::Case]) -> Result<Vec<Answer>> {
    let mut all: Vec<Answer> = Vec::new();
    let answer = |(op, variant, ty): testing::Cell, says: String| Answer {
        op: op.to_owned(),
        variant: variant.to_owned(),
        ty: ty.unwrap_or(NO_TYPE).to_owned(),
        says,
    };
    run_cases(gpus, cases, f.seed, |case, ran| {
        let says = match ran.outcome {
            Outcome::Passed(_) => YES.to_owned(),
            Outcome::Failed(nmse) => format!("{WRONG}: NMSE {nmse:.1e} at {}", case.name),
            Outcome::Error(e) => format!("{WRONG}: {}", crate::error::one_line(&e)),
            Outcome::Unsupported(why) => no(why.strip_prefix(&format!("{}: ", case.op)).unwrap_or(&why)),
        };
        let new = answer(case.cell(), says);
        match all.iter_mut().find(|a| a.is(&new)) {
            None => all.push(new),
            // One fault spoils a cell; shapes that have no plan leave a part of it.
            Some(a) if a.says == new.says || wrong(&a.says) => {}
            Some(a) if wrong(&new.says) => a.says = new.says,
            Some(a) if a.says == YES => a.says = format!("{PART}{}", new.says),
            Some(a) if new.says == YES && !a.says.starts_with(PART) => a.says = format!("{PART}{}", a.says),
            Some(_) => {}
        }
        Ok(())
    })?;
    let absent = registry::absent(&gpus[0]).into_iter().filter(|(cell, _)| f.choice.takes(*cell));
    all.extend(absent.map(|(cell, why)| answer(cell, no(&why))));
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

const HEAD: &str = "\
# What runs where

Generated; to do it again:

```sh
weft kernels support --json > other.json       # on another device
weft kernels support --markdown --also other.json > kernels/OPS.md
```

`yes` says that cases of `weft kernels test` for this op, variant and type (the first of them and every fourth
after it) ran on this device and were right; `f32` stands for ops that read no weights and no cache. What an op computes, how
it splits and its WGSL are in its folder under `kernels/src/ops/`; `weft kernels list` has the number of
cases and the tolerances.

| op | variant | types |";

/// The types of an op's variant that have the same answers on all devices.
struct Row {
    op: String,
    variant: String,
    types: Vec<String>,
    says: Vec<String>,
}

fn rows(devices: &[(String, Vec<Answer>)]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut types: Vec<&str> = Vec::new();
    for cell in &devices[0].1 {
        if !types.contains(&&*cell.ty) {
            types.push(&cell.ty);
        }
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
    // Types in the order of the registry, and an op's variants together.
    for row in &mut rows {
        row.types.sort_by_key(|ty| types.iter().position(|t| t == ty));
    }
    let order: Vec<_> = rows.iter().map(|r| (r.op.clone(), r.variant.clone())).collect();
    rows.sort_by_key(|r| order.iter().position(|o| (&o.0, &o.1) == (&r.op, &r.variant)));
    rows
}

/// The whole of kernels/OPS.md.
fn markdown(devices: &[(String, Vec<Answer>)]) -> String {
    let mut text = String::from(HEAD);
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
