//! `weft tune`: which constants of the decode kernels are faster on this device than those of the table.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use weft_kernels::WeightType;
use weft_kernels::perf::tune::{self, Tunable};
use weft_kernels::tuning::{self, Finding};
use weft_runtime::Gpu;

use crate::options::{self, DeviceFlags, VariantFlag};
use crate::{Error, Result, interrupt, output, report};

/// Measure this device, in less than two minutes, and keep what is faster than the defaults
///
/// Products and attention of a decode step, each waiting for the one before, as in a model. Constants that are
/// faster by 3 % each time they are measured go to a small file, which every later start on this device and driver
/// reads (`--tuning off` does not). It replaces an earlier one. Nothing is ever measured unasked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft tune
  weft tune --type q4_k,q6_k,q5_k --device nvidia
  weft tune --quick -o tune.json
  weft run -m model.gguf --tuning tune.json \"Hello\"
  weft tune --remove")]
pub(super) struct Flags {
    /// The types of weights and caches to measure
    #[arg(long = "type", value_name = "T,...", value_delimiter = ',', value_parser = ty,
          default_value = "q4_k,q6_k,q8_0,f16")]
    types: Vec<&'static str>,
    /// Where the file goes [default: into the folder of compiled kernels, for this device]
    #[arg(short, long, value_name = "FILE", conflicts_with = "remove")]
    output: Option<PathBuf>,
    /// A part of it, for an impression
    #[arg(long)]
    quick: bool,
    /// Stop after so long, and keep what was found until then [default: 100; 20 with --quick]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Delete this device's file, and measure nothing
    #[arg(long, conflicts_with_all = ["types", "quick", "seconds", "variant"])]
    remove: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    variant: VariantFlag,
}

fn ty(name: &str) -> std::result::Result<&'static str, String> {
    let known = || WeightType::ALL.iter().map(|t| t.name());
    let found = known().find(|n| n.eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("known: {}", known().collect::<Vec<_>>().join(", ")))
}

pub(super) fn run(f: Flags) -> Result<()> {
    interrupt::install(2);
    let device = DeviceFlags { variants: f.variant.variant.clone(), ..f.device.clone() };
    // Measured against the defaults, with kernels most of which nobody needs again.
    let options = weft_runtime::Options { cache: None, tuning: None, ..device.options()? };
    let gpu = pollster::block_on(weft_kernels::open(&options))?;
    let file = match f.output.clone() {
        Some(file) => file,
        None => own_file(&gpu)?,
    };
    if f.remove {
        return remove(&file, f.json);
    }
    options::check_output(&file, &[], "a file of constants from weft tune", |head| {
        let text = String::from_utf8_lossy(head);
        text.trim_start().starts_with('{')
            && ["\"driver\"", "\"entries\""].iter().all(|key| text.contains(key))
    })?;
    // A path that cannot be written is said before the work, not after it.
    drop(weft_formats::AtomicFile::create(&file)?);
    if !f.json {
        output::line(&report::device_line(gpu.caps()))?;
        let head = ["kernel", "type", "shape", "default us", "best us", "gain", "constants"];
        line(head.map(str::to_owned))?;
    }
    let tunables = tune::tunables(gpu.caps(), &f.types, f.quick);
    let seconds = f.seconds.unwrap_or(if f.quick { 20 } else { 100 });
    let (found, left) = measure(&f, &gpu, &tunables, Duration::from_secs(seconds))?;
    let gains: Vec<Finding> = found.iter().filter(|f| f.gains()).cloned().collect();
    write(&file, &tuning::text(gpu.caps(), &today(), &gains))?;
    if f.json {
        let rows: Vec<_> = found.iter().map(Finding::json).collect();
        let left: Vec<_> = left
            .iter()
            .map(|(tunable, why)| {
                let (op, ty, shape) = tunable.names();
                json!({ "op": op, "type": ty, "shape": shape, "why": why })
            })
            .collect();
        return output::json(&json!({
            "device": report::caps_json(gpu.caps()),
            "rows": rows,
            "not_measured": left,
            "file": file,
        }));
    }
    // A line for each reason, however many it left out.
    for part in left.chunk_by(|a, b| a.1 == b.1) {
        let (op, ty, shape) = part[0].0.names();
        let more = if part.len() > 1 { format!(" and {} more", part.len() - 1) } else { String::new() };
        output::line(&format!("not measured: {op} {ty} {shape}{more}: {}", part[0].1))?;
    }
    let defaults = if gains.is_empty() { "the defaults stay" } else { "the defaults stay for all else" };
    output::line(&format!("{}: faster for {} of {}; {defaults}", file.display(), gains.len(), tunables.len()))
}

/// What was found, and what was not measured, with the reason. Behind a bar.
fn measure(f: &Flags, gpu: &Gpu, tunables: &[Tunable], budget: Duration) -> Result<Measured> {
    let bar = output::bar(tunables.len() as u64, "{bar:30} {pos} of {len}, {msg}, {elapsed}");
    let mut told = |step: Step<'_>| {
        match step {
            Step::At(tunable) => {
                let (op, ty, _) = tunable.names();
                bar.set_message(format!("{op} {ty}"));
            }
            Step::Done(tunable, finding) => {
                bar.inc(1);
                if let Some(finding) = finding.filter(|_| !f.json) {
                    bar.suspend(|| line(row(tunable, finding)))?;
                }
            }
        }
        bar.tick();
        Ok(())
    };
    let stopped = || {
        bar.tick();
        interrupt::asked()
    };
    let measured = measure_all(gpu, (tunables, f.quick, budget), &mut told, &stopped);
    bar.finish_and_clear();
    measured
}

/// What was found, and what was not measured, with the reason.
type Measured = (Vec<Finding>, Vec<(Tunable, String)>);

/// How far the measuring is.
enum Step<'a> {
    /// This is measured.
    At(&'a Tunable),
    /// It was, if it could be.
    Done(&'a Tunable, Option<&'a Finding>),
}

fn measure_all(
    gpu: &Gpu,
    (tunables, quick, budget): (&[Tunable], bool, Duration),
    told: &mut dyn FnMut(Step<'_>) -> Result<()>,
    stopped: &dyn Fn() -> bool,
) -> Result<Measured> {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for tunable in tunables {
        told(Step::At(tunable))?;
        let measured = tune::measure(gpu, quick, tunable, &mut || stopped() || start.elapsed() >= budget);
        if stopped() {
            return Err(Error::Interrupted);
        }
        match measured {
            Ok(Some(finding)) => {
                told(Step::Done(tunable, Some(&finding)))?;
                found.push(finding);
                continue;
            }
            Ok(None) => left.push((*tunable, format!("{} s were over", budget.as_secs()))),
            // A device that is too small for one row of the table is not too small for the next.
            Err(weft_kernels::Error::Plan(e)) => left.push((*tunable, e.to_string())),
            Err(weft_kernels::Error::Gpu(
                e @ (weft_runtime::Error::OutOfMemory { .. } | weft_runtime::Error::BufferTooLarge { .. }),
            )) => left.push((*tunable, e.to_string())),
            Err(e) => return Err(weft_models::Error::from(e).into()),
        }
        told(Step::Done(tunable, None))?;
    }
    Ok((found, left))
}

/// A row of the table.
fn row(tunable: &Tunable, finding: &Finding) -> [String; 7] {
    let (op, ty, shape) = tunable.names();
    let [before, now] = finding.us;
    let (gain, best) = match finding.gains() {
        true => (format!("{:.1}%", 100.0 * (before / now - 1.0)), now),
        false => ("-".into(), before),
    };
    let constants = tuning::constants_text(op, finding.tuned.constants);
    let [before, best] = [before, best].map(|us| format!("{us:.2}"));
    [op.into(), ty.into(), shape, before, best, gain, constants]
}

/// What `weft tune` does, for a server: measures, and keeps what is faster for later starts. Tells `told` of each kernel.
///
/// # Errors
/// A fault of the device, no folder to keep it in, or what `told` gives; `stopped` ends it, and keeps nothing.
pub(super) fn of(
    device: &DeviceFlags,
    thorough: bool,
    told: &mut dyn FnMut(&str, u64, u64) -> Result<()>,
    stopped: &dyn Fn() -> bool,
) -> Result<Value> {
    let options = weft_runtime::Options { cache: None, tuning: None, ..device.options()? };
    let gpu = pollster::block_on(weft_kernels::open(&options))?;
    let file = own_file(&gpu)?;
    let tunables = tune::tunables(gpu.caps(), &["q4_k", "q6_k", "q8_0", "f16"], !thorough);
    let (total, seconds) = (tunables.len() as u64, if thorough { 100 } else { 20 });
    let mut rows = Vec::new();
    let (found, left) = measure_all(
        &gpu,
        (&tunables, !thorough, Duration::from_secs(seconds)),
        &mut |step| match step {
            Step::At(tunable) => told(&format!("{} {}", tunable.names().0, tunable.names().1), 0, total),
            Step::Done(tunable, finding) => {
                if let Some(f) = finding {
                    let (op, ty, shape) = tunable.names();
                    rows.push(json!({
                        "op": op, "type": ty, "shape": shape, "default_us": f.us[0], "best_us": f.us[1],
                        "gains": f.gains(),
                    }));
                }
                told(tunable.names().0, 1, total)
            }
        },
        stopped,
    )?;
    let gains: Vec<Finding> = found.iter().filter(|f| f.gains()).cloned().collect();
    write(&file, &tuning::text(gpu.caps(), &today(), &gains))?;
    Ok(json!({ "rows": rows, "faster": gains.len(), "not_measured": left.len() }))
}

fn line([op, ty, shape, before, best, gain, constants]: [String; 7]) -> Result<()> {
    output::line(&format!("{op:<17} {ty:<6} {shape:>20} {before:>11} {best:>11} {gain:>7}  {constants}"))
}

/// Where this device's file lies.
fn own_file(gpu: &Gpu) -> Result<PathBuf> {
    let none = "there is no folder for it (WEFT_CACHE is off, or the system has none); give a file with -o";
    let folder = weft_runtime::default_cache().ok_or_else(|| Error::input(none))?;
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    Ok(folder.join(tuning::file_name(gpu.caps())))
}

fn remove(file: &Path, json: bool) -> Result<()> {
    let was_there = match std::fs::remove_file(file) {
        Ok(()) => true,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::io(file, e)),
    };
    let name = file.display().to_string();
    match json {
        true => output::json(&json!({ "file": name, "deleted": was_there })),
        false => output::line(&format!("{name}: {}", if was_there { "deleted" } else { "not there" })),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    let mut whole = weft_formats::AtomicFile::create(file)?;
    std::io::Write::write_all(&mut whole, text.as_bytes()).map_err(|e| Error::io(file, e))?;
    Ok(whole.finish()?)
}

/// The date in Greenwich, as 2026-11-28 (Hinnant, "chrono-compatible low-level date algorithms").
fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    date(now.as_secs() / 86_400)
}

fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates() {
        for (days, want) in
            [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_785, "2026-11-28"), (20_818, "2026-12-31")]
        {
            assert_eq!(date(days), want);
        }
    }
}
