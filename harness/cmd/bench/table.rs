//! What was measured, as a table in markdown, as JSON and as CSV: a field each, of one list.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use weft_models::Model;
use weft_runtime::human;

use super::{Ceilings, Flags, Measured, Test, profile};
use crate::{Result, output, report};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table in markdown
    Md,
    /// An array of objects, one a test
    Json,
    /// A line with the fields' names, then a line a test
    Csv,
}

/// What all rows have in common.
pub(super) struct Subject<'a> {
    pub(super) file: String,
    pub(super) synthetic: bool,
    pub(super) model: &'a Model,
    pub(super) flags: &'a Flags,
    pub(super) load: Duration,
    pub(super) ceilings: Ceilings,
}

impl Subject<'_> {
    fn fields(&self) -> Map<String, Value> {
        let (model, f) = (self.model, self.flags);
        let caps = model.gpu().caps();
        let features: Vec<&str> = [
            (caps.f16, "f16"),
            (caps.subgroups.is_some(), "subgroups"),
            (caps.dot, "dot"),
            (!caps.coop.is_empty(), "coop"),
        ]
        .iter()
        .filter_map(|(has, name)| has.then_some(*name))
        .collect();
        let weights = model.gpu().memory().pools.get(&weft_runtime::Pool::Weights).map_or(0, |p| p.used);
        let json = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": caps.name,
            "device_kind": report::kind(caps),
            "backend": caps.backend,
            "driver": caps.driver,
            "features": features.join(" "),
            "limits": f.device.limits.map(|p| p.name()),
            "variants": caps.variants.join(" "),
            "tuning": caps.tuning.file,
            "copy_bytes_per_s": self.ceilings.copy,
            "matrix_flops_per_s": self.ceilings.matrix,
            "model_filename": self.file,
            "synthetic": self.synthetic,
            "model_arch": model.spec().architecture,
            "model_type": report::mixture(model),
            "model_layers": model.spec().layers(),
            "model_n_params": model.parameters(),
            "model_size": model.bytes(),
            "weights_bytes": weights,
            "cache_type": model.cache_type().name(),
            "chunk": model.chunk(),
            "load_s": self.load.as_secs_f64(),
        });
        match json {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// One test's figures.
pub(super) struct Row {
    test: Test,
    rates: Vec<f64>,
    seconds: Vec<f64>,
    dispatches: Option<usize>,
    submits: Option<usize>,
    /// Seconds that the device is busy, and that pass, of what was replayed: a prompt, or a token of each slot.
    busy: Option<f64>,
    longest: Option<f64>,
    profile: Value,
    /// What the rate makes of the bytes and operations of a step, a second.
    bytes_per_token: f64,
    flops_per_token: f64,
    bytes_rate: f64,
    flops_rate: f64,
    of_copy: Option<f64>,
    of_matrix: Option<f64>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of a sample; 0 of a single one.
fn deviation(values: &[f64]) -> f64 {
    let m = mean(values);
    let squares: f64 = values.iter().map(|v| (v - m).powi(2)).sum();
    (squares / (values.len().max(2) - 1) as f64).sqrt()
}

impl Row {
    pub(super) fn new(subject: &Subject<'_>, test: Test, m: &Measured) -> Row {
        let tokens = f64::from(test.tokens());
        let rates: Vec<f64> = m.seconds.iter().map(|s| tokens / s).collect();
        // A step: a prompt, or a token of each slot in the middle of the answer.
        let cost = match test.prompt {
            0 => subject.model.cost(test.slots, 1, test.depth + test.decode / 2),
            n => subject.model.cost(1, n, test.depth),
        };
        let of_step = if test.prompt > 0 { f64::from(test.prompt) } else { f64::from(test.slots) };
        let steps = tokens / of_step;
        let step = mean(&m.seconds) / steps;
        let (bytes_rate, flops_rate) = (cost.bytes / step, cost.flops / step);
        let replay = m.replay.as_ref();
        Row {
            test,
            rates,
            seconds: m.seconds.clone(),
            dispatches: replay.map(|r| r.dispatches),
            submits: replay.map(|r| r.submits),
            busy: replay.and_then(|r| r.busy).map(|b| b / step),
            longest: replay.map(|r| r.longest_submit * 1e3),
            profile: profile::json(m.apart.as_ref()),
            bytes_per_token: cost.bytes / of_step,
            flops_per_token: cost.flops / of_step,
            bytes_rate,
            flops_rate,
            of_copy: subject.ceilings.copy.map(|c| bytes_rate / c),
            of_matrix: subject.ceilings.matrix.map(|c| flops_rate / c),
        }
    }

    fn fields(&self, subject: &Subject<'_>) -> Map<String, Value> {
        let mut all = subject.fields();
        let seconds: Vec<f64> = self.seconds.clone();
        let json = json!({
            "test": self.test.name(),
            "n_prompt": self.test.prompt,
            "n_gen": self.test.decode,
            "n_depth": self.test.depth,
            "n_streams": self.test.slots,
            "avg_ns": (mean(&seconds) * 1e9).round() as u64,
            "stddev_ns": (deviation(&seconds) * 1e9).round() as u64,
            "avg_ts": mean(&self.rates),
            "stddev_ts": deviation(&self.rates),
            "samples_ns": seconds.iter().map(|s| (s * 1e9).round() as u64).collect::<Vec<_>>(),
            "samples_ts": self.rates,
            "bytes_per_token": self.bytes_per_token,
            "flops_per_token": self.flops_per_token,
            "bytes_per_s": self.bytes_rate,
            "flops_per_s": self.flops_rate,
            "of_copy": self.of_copy,
            "of_matrix": self.of_matrix,
            "dispatches": self.dispatches,
            "submits": self.submits,
            "gpu_busy": self.busy,
            "longest_submit_ms": self.longest,
            "profile": self.profile,
        });
        if let Value::Object(map) = json {
            all.extend(map);
        }
        all
    }

    /// All fields, as an object.
    pub(super) fn json(&self, subject: &Subject<'_>) -> Value {
        Value::Object(self.fields(subject))
    }

    fn cells(&self) -> [String; 8] {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1} %", v * 100.0));
        let count = |v: Option<usize>| v.map_or("-".into(), |v| v.to_string());
        [
            self.test.name(),
            format!("{:.2} ± {:.2}", mean(&self.rates), deviation(&self.rates)),
            percent(self.of_copy),
            percent(self.of_matrix),
            human(self.bytes_per_token as u64),
            count(self.dispatches),
            percent(self.busy),
            self.longest.map_or("-".into(), |ms| format!("{ms:.2} ms")),
        ]
    }
}

const HEADS: [&str; 8] =
    ["test", "t/s", "of copy", "of matrix", "a token", "dispatches", "GPU busy", "longest submit"];
const WIDTHS: [usize; 8] = [18, 20, 8, 9, 10, 10, 8, 14];

fn cells_line(cells: &[String; 8]) -> String {
    let cell = |(i, (cell, width)): (usize, (&String, usize))| match i {
        0 => format!(" {cell:<width$} "),
        _ => format!(" {cell:>width$} "),
    };
    format!("|{}|", cells.iter().zip(WIDTHS).enumerate().map(cell).collect::<Vec<_>>().join("|"))
}

/// Where a table goes.
pub(super) type Sink = fn(&str) -> Result<()>;

/// To stderr.
pub(super) fn to_stderr(line: &str) -> Result<()> {
    output::note(line);
    Ok(())
}

/// Prints rows: as they come, or, as JSON, all at once.
pub(super) struct Rows<'a> {
    format: Format,
    line: Sink,
    subject: &'a Subject<'a>,
    done: Vec<Value>,
}

impl<'a> Rows<'a> {
    /// The head of the table.
    pub(super) fn new(format: Format, line: Sink, subject: &'a Subject<'a>) -> Result<Rows<'a>> {
        if format == Format::Md {
            let model = subject.model;
            let mixture = report::mixture(subject.model).map_or_else(String::new, |m| format!(" {m}"));
            let made_up = if subject.synthetic { ", made-up weights" } else { "" };
            line(&format!(
                "{}: {}{mixture}, {} layers, {:.2} B parameters, {}{made_up}",
                subject.file,
                model.spec().architecture,
                model.spec().layers(),
                model.parameters() as f64 / 1e9,
                human(model.bytes()),
            ))?;
            line("")?;
            let caps = model.gpu().caps();
            line(&format!("{}, {}", report::device_line(caps), caps.driver))?;
            line("")?;
            let rate = |v: Option<f64>, unit: f64| v.map_or("unknown".into(), |v| format!("{:.1}", v / unit));
            line(&format!(
                "ceilings: a copy {} GB/s, the fastest matrix product {} TFLOP/s",
                rate(subject.ceilings.copy, 1e9),
                match subject.ceilings.matrix {
                    Some(m) if m < 1e12 => format!("{:.4}", m / 1e12),
                    m => rate(m, 1e12),
                },
            ))?;
            line("")?;
            line(&cells_line(&HEADS.map(str::to_owned)))?;
            let rule = |(i, width): (usize, usize)| match i {
                0 => format!(" {} ", "-".repeat(width)),
                _ => format!(" {}: ", "-".repeat(width - 1)),
            };
            let rules: Vec<String> = WIDTHS.into_iter().enumerate().map(rule).collect();
            line(&format!("|{}|", rules.join("|")))?;
        }
        Ok(Rows { format, line, subject, done: Vec::new() })
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<()> {
        let (fields, line) = (row.fields(self.subject), self.line);
        match self.format {
            Format::Md => line(&cells_line(&row.cells()))?,
            Format::Json => self.done.push(Value::Object(fields)),
            Format::Csv => {
                if self.done.is_empty() {
                    line(&fields.keys().cloned().collect::<Vec<_>>().join(","))?;
                    self.done.push(Value::Null);
                }
                line(&fields.values().map(csv).collect::<Vec<_>>().join(","))?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        match self.format {
            Format::Json => (self.line)(&format!("{:#}", Value::Array(self.done))),
            _ => Ok(()),
        }
    }
}

/// A value as a field of CSV: text in quotes, several values in one field.
fn csv(value: &Value) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        // What has fields of its own is in JSON only.
        Value::Array(items) if items.iter().any(Value::is_object) => String::new(),
        Value::Array(items) => quoted(&items.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}
