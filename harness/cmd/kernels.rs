//! `weft kernels`: every op against its double-precision reference, and how fast, on this device.

mod perf;
mod support;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use weft_formats::quant;
use weft_kernels::registry;
use weft_kernels::select::{self, Rule};
use weft_kernels::testing::{self, Case, Cell, Outcome, Ran};
use weft_kernels::{WeightType, drivers};
use weft_runtime::Gpu;

use crate::options::DeviceFlags;
use crate::{Error, Result, interrupt, output, report};

/// Check and measure the GPU kernels
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft kernels list
  weft kernels test
  weft kernels test --op 'mat*' --limits adreno --without f16,subgroups
  weft kernels grad --quick")]
pub(super) struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the ops with their variants, types, number of cases and tolerances
    #[command(after_help = "Examples:
  weft kernels list
  weft kernels list --op matmul --json
  weft kernels list --wgsl shaders
  weft kernels list --explain --device 0")]
    List(List),
    /// Run every case of every op against its reference in double precision
    ///
    /// A line for each case with its normalised mean squared error. The last line counts: `N passed,
    /// N failed, N unsupported`. The exit code is 1 if any failed.
    #[command(after_help = "Examples:
  weft kernels test
  weft kernels test --quick --seed 7
  weft kernels test --op matmul --type q4_k,q6_k --variant matvec
  weft kernels test --op 'r*' --device nvidia --json")]
    Test(Test),
    /// Check every gradient against differences of the op whose gradient it is
    ///
    /// For each case of an op that computes gradients: what the device gave, against central differences of
    /// the forward op's reference in double precision along random directions. `weft kernels test` compares
    /// the same gradients value by value with the backward op's own reference. Lines, counts and exit code
    /// are those of `weft kernels test`.
    #[command(after_help = "Examples:
  weft kernels grad
  weft kernels grad --op '*_dx' --type q4_k,f16 --limits minimal
  weft kernels grad --op attention_backward --without coop --json")]
    Grad(Test),
    /// Measure every op at the sizes of real models, beside what this device reaches at best
    ///
    /// Matvec of every type at 4096 x 14336 and 2560 x 9728 (outputs x inputs), products of many tokens, attention,
    /// and all that lies between. GB/s are in percent of the bandwidth of a copy, GFLOP/s in percent of the fastest
    /// product in F16, both measured first. Bytes are those that have to be read and written: of a product the
    /// weight's own. A read alone can be faster than a copy.
    #[command(after_help = "Examples:
  weft kernels perf
  weft kernels perf --type q4_k,q8_0 --variant matvec --quick
  weft kernels perf --tiles --op matmul_dx --type q4_k --variant coop
  weft kernels perf --sweep --type q4_k
  weft kernels perf --json > perf.json")]
    Perf(Perf),
    /// Print which op runs in which variant on which type here, and why not
    ///
    /// What it says runs has just run, and was right: a part of the cases of `weft kernels test`.
    #[command(after_help = "Examples:
  weft kernels support
  weft kernels support --op matmul --without coop
  weft kernels support --markdown --also other-device.json
  weft kernels support --json > this-device.json")]
    Support(Support),
}

/// Which cases.
#[derive(Debug, Args)]
struct Choice {
    /// Only the ops whose name matches; * stands for anything, ? for one character
    #[arg(long, value_name = "GLOB", default_value = "*")]
    op: String,
    /// Only these types of weights or caches, such as q4_k,f16
    #[arg(long = "type", value_name = "T,...", value_delimiter = ',')]
    types: Vec<String>,
    /// Only this variant
    #[arg(long, value_name = "V")]
    variant: Option<String>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    choice: Choice,
    /// The table by which a variant is picked, and which of its rows this device can have
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    device: DeviceFlags,
    /// Write the text of every shader into this folder, a file each, for other compilers of WGSL
    #[arg(long, value_name = "DIR", conflicts_with_all = ["explain", "json"])]
    wgsl: Option<PathBuf>,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Test {
    #[command(flatten)]
    choice: Choice,
    /// Other inputs for every case
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// A part of the cases that takes a minute on a software GPU: of every op in every variant and of every
    /// type
    #[arg(long)]
    quick: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
}

#[derive(Debug, Args)]
struct Perf {
    #[command(flatten)]
    choice: Choice,
    /// Every tile of the products of many tokens, and every cut of a decode step's attention, not only those
    /// that this device gets
    #[arg(long)]
    tiles: bool,
    /// Shorter, for an impression
    #[arg(long)]
    quick: bool,
    /// Measure matvecs with every useful choice of constants, apart and in a chain
    #[arg(long)]
    sweep: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
}

#[derive(Debug, Args)]
struct Support {
    #[command(flatten)]
    choice: Choice,
    /// Other inputs for every case
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print one JSON object
    #[arg(long, conflicts_with_all = ["markdown", "also"])]
    json: bool,
    /// Print a table for kernels/OPS.md
    #[arg(long)]
    markdown: bool,
    /// A column for another device, from what it printed with --json
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceFlags,
}

pub(super) fn run(f: Flags) -> Result<()> {
    interrupt::install(2);
    match f.command {
        Command::List(f) if f.explain => explain(&f),
        Command::List(f) => list(&f),
        Command::Test(f) => test(&f, registry::cases()),
        Command::Grad(f) => test(&f, registry::gradients()),
        Command::Perf(f) => perf::run(&f),
        Command::Support(f) => support::run(&f),
    }
}

impl Choice {
    /// Those of `cases` that were asked for.
    ///
    /// # Errors
    /// A word that none of them knows, with those that are known; a choice that leaves none.
    fn of(&self, cases: Vec<Case>) -> Result<Vec<Case>> {
        let known = |what: &str, asked: &str, ok: bool, all: Vec<&'static str>| match ok {
            true => Ok(()),
            false => {
                let mut names: Vec<&str> = Vec::new();
                all.into_iter().for_each(|n| {
                    if !names.iter().any(|m| m.eq_ignore_ascii_case(n)) {
                        names.push(n);
                    }
                });
                Err(Error::usage(format!("no {what} matches {asked:?} (known: {})", names.join(", "))))
            }
        };
        known(
            "op",
            &self.op,
            cases.iter().any(|c| glob(&self.op, c.op)),
            cases.iter().map(|c| c.op).collect(),
        )?;
        for ty in &self.types {
            let is = |c: &Case| c.ty.is_some_and(|t| t.eq_ignore_ascii_case(ty));
            known("type", ty, cases.iter().any(is), cases.iter().filter_map(|c| c.ty).collect())?;
        }
        if let Some(v) = &self.variant {
            let is = |c: &Case| c.variant == v;
            known("variant", v, cases.iter().any(is), cases.iter().map(|c| c.variant).collect())?;
        }
        let left: Vec<_> = cases.into_iter().filter(|c| self.takes(c.cell())).collect();
        match left.is_empty() {
            true => Err(Error::usage("no op has this type and this variant (see `weft kernels list`)")),
            false => Ok(left),
        }
    }

    fn takes(&self, (op, variant, ty): Cell) -> bool {
        let typed = |ty: &str| self.types.iter().any(|t| t.eq_ignore_ascii_case(ty));
        (self.types.is_empty() || ty.is_some_and(typed)) && self.takes_but_type(op, variant)
    }

    fn takes_but_type(&self, op: &str, variant: &str) -> bool {
        glob(&self.op, op) && self.variant.as_deref().is_none_or(|v| v == variant)
    }
}

/// A shader's text is that of core WebGPU unless it says `enable` or speaks of subgroups.
fn write_wgsl(folder: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let all = registry::shaders();
    for (shader, _) in &all {
        let path = folder.join(format!("{}.wgsl", shader.name.replace('/', "-")));
        std::fs::write(&path, &shader.source).map_err(|e| Error::io(&path, e))?;
    }
    output::note(&format!("{}: {} shaders", folder.display(), all.len()));
    Ok(())
}

fn list(f: &List) -> Result<()> {
    if let Some(folder) = &f.wgsl {
        return write_wgsl(folder);
    }
    /// An op in one variant, with all its types.
    struct Row {
        op: &'static str,
        variant: &'static str,
        types: Vec<&'static str>,
        cases: usize,
        tolerance: f64,
    }
    let mut rows: Vec<Row> = Vec::new();
    for c in f.choice.of(registry::cases())? {
        let at = rows.iter().position(|r| (r.op, r.variant) == (c.op, c.variant)).unwrap_or_else(|| {
            rows.push(Row { op: c.op, variant: c.variant, types: Vec::new(), cases: 0, tolerance: 0.0 });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.cases += 1;
        row.tolerance = row.tolerance.max(c.tolerance);
        row.types.extend(c.ty.filter(|t| !row.types.contains(t)));
    }
    if f.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|r| {
                json!({
                    "op": r.op,
                    "variant": r.variant,
                    "types": r.types,
                    "cases": r.cases,
                    "tolerance": r.tolerance,
                })
            })
            .collect();
        return output::json(&json!(rows));
    }
    output::line(&format!("{:<12} {:<12} {:>5} {:>9}  types", "op", "variant", "cases", "tolerance"))?;
    for r in rows {
        let types = if r.types.is_empty() { "f32".to_owned() } else { r.types.join(" ") };
        let tolerance = format!("{:.0e}", r.tolerance);
        output::line(&format!("{:<12} {:<12} {:>5} {tolerance:>9}  {types}", r.op, r.variant, r.cases))?;
    }
    Ok(())
}

/// The table of `weft_kernels::select`, row by row.
fn explain(f: &List) -> Result<()> {
    f.choice.of(registry::cases())?;
    let gpu = open(&f.choice, &f.device)?;
    let rules = select::RULES.iter().filter(|r| f.choice.takes_but_type(r.op, r.variant));
    let here = |r: &Rule| r.lacking(gpu.caps()).unwrap_or_else(|| "yes".to_owned());
    let needs = |r: &Rule| r.needs.iter().map(|n| n.name()).collect::<Vec<_>>();
    if f.json {
        let rows: Vec<_> = rules
            .map(|r| {
                json!({
                    "op": r.op,
                    "variant": r.variant,
                    "shapes": r.shapes(),
                    "needs": needs(r),
                    "software": r.software,
                    "why": r.why,
                    "here": here(r),
                })
            })
            .collect();
        let failures: Vec<_> = drivers::of(gpu.caps()).map(drivers::Failure::line).collect();
        return output::json(&with_device(
            &gpu,
            json!({ "rules": rows, "known_failures": failures, "tuning": gpu.caps().tuning.file }),
        ));
    }
    output::line(&report::device_line(gpu.caps()))?;
    output::line("The first row of an op counts that the device and the shape can have.\n")?;
    let head = ["op", "variant", "shapes", "needs", "here", "why"];
    let line = |[op, variant, shapes, needs, here, why]: [&str; 6]| {
        output::line(&format!("{op:<18} {variant:<10} {shapes:<51} {needs:<10} {here:<24} {why}"))
    };
    line(head)?;
    for r in rules {
        line([r.op, r.variant, &r.shapes(), &needs(r).join(","), &here(r), r.why])?;
    }
    output::line(&format!("tuning: {}", report::tuning_line(&gpu.caps().tuning)))?;
    drivers::of(gpu.caps()).try_for_each(|f| output::line(&format!("known to fail here: {}", f.line())))
}

/// The device. A variant that was asked for is tried there even where it is known to fail.
fn open(choice: &Choice, device: &DeviceFlags) -> Result<Gpu> {
    let gpu = pollster::block_on(weft_kernels::open(&options(choice, device)?))?;
    report::tuning_notes(gpu.caps());
    Ok(gpu)
}

/// What cases run on.
fn devices(choice: &Choice, device: &DeviceFlags) -> Result<Vec<Gpu>> {
    let gpus = pollster::block_on(testing::devices(&options(choice, device)?))?;
    report::tuning_notes(gpus[0].caps());
    Ok(gpus)
}

fn options(choice: &Choice, device: &DeviceFlags) -> Result<weft_models::DeviceOptions> {
    let device = DeviceFlags { variants: choice.variant.iter().cloned().collect(), ..device.clone() };
    // Thousands of kernels, most of which no model of this user's needs.
    Ok(weft_models::DeviceOptions { cache: None, ..device.options()? })
}

fn test(f: &Test, cases: Vec<Case>) -> Result<()> {
    let mut cases = f.choice.of(cases)?;
    if f.quick {
        // Types that were asked for come in every variant.
        cases = match f.choice.types.is_empty() {
            true => testing::quick(cases),
            false => testing::each_cell(cases),
        };
    }
    let gpus = devices(&f.choice, &f.device)?;
    let gpu = &gpus[0];
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    let mut rows = Vec::new();
    if !f.json {
        output::line(&report::device_line(gpu.caps()))?;
    }
    run_cases(&gpus, &cases, f.seed, |case, ran| {
        let (word, nmse, detail) = ended(case, ran.outcome);
        *match word {
            "passed" => &mut passed,
            "FAILED" => &mut failed,
            _ => &mut unsupported,
        } += 1;
        if f.json {
            rows.push(json!({
                "op": case.op,
                "variant": case.variant,
                "type": case.ty,
                "case": case.name,
                "outcome": word.to_lowercase(),
                "nmse": nmse,
                "tolerance": case.tolerance,
                "seconds": ran.took.as_secs_f64(),
                "detail": detail,
            }));
            return Ok(());
        }
        let ty = case.ty.unwrap_or("f32");
        let (op, variant, name) = (case.op, case.variant, &case.name);
        output::line(&format!("{word:<12} {op:<10} {variant:<11} {ty:<8} {name}: {detail}"))
    })?;
    if f.json {
        output::json(&with_device(
            gpu,
            json!({
                "seed": f.seed,
                "cases": rows,
                "passed": passed,
                "failed": failed,
                "unsupported": unsupported,
            }),
        ))?;
    } else {
        output::line(&format!("{passed} passed, {failed} failed, {unsupported} unsupported"))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Error::Cases { failed, total: cases.len() }),
    }
}

/// A word for how a case ended, its error where it has one, and more of it.
fn ended(case: &Case, outcome: Outcome) -> (&'static str, Option<f64>, String) {
    match outcome {
        Outcome::Passed(nmse) => ("passed", Some(nmse), format!("NMSE {nmse:.1e}")),
        Outcome::Failed(nmse) => {
            ("FAILED", Some(nmse), format!("NMSE {nmse:.1e}, allowed {:.0e}", case.tolerance))
        }
        Outcome::Unsupported(why) => ("unsupported", None, why),
        Outcome::Error(what) => ("FAILED", None, crate::error::one_line(&what)),
    }
}

/// Everything, as far as a server is asked for it.
fn all() -> Choice {
    Choice { op: "*".into(), types: Vec::new(), variant: None }
}

/// What `weft kernels test` does, for a server; tells `told` of each case.
///
/// # Errors
/// A device that cannot be opened, or what `told` gives.
pub(super) fn tested(
    device: &DeviceFlags,
    thorough: bool,
    told: &mut dyn FnMut(&str, u64, u64) -> Result<()>,
) -> Result<Value> {
    let cases = registry::cases();
    let cases = if thorough { cases } else { testing::quick(cases) };
    let total = cases.len() as u64;
    told("the first shaders", 0, total)?;
    let gpus = devices(&all(), device)?;
    let (mut counts, mut ops) = ([0u64; 3], std::collections::BTreeSet::new());
    let mut failures = Vec::new();
    testing::run_all(&gpus, &cases, oracle, 0, |case, ran| -> Result<()> {
        let (word, _, detail) = ended(case, ran.outcome);
        ops.insert(case.op);
        counts[["passed", "FAILED", "unsupported"].iter().position(|w| *w == word).unwrap_or(1)] += 1;
        if word == "FAILED" && failures.len() < FAILURES {
            failures.push(json!({
                "op": case.op, "variant": case.variant, "type": case.ty, "case": case.name, "detail": detail,
            }));
        }
        told(case.op, 1, total)
    })?;
    let [passed, failed, unsupported] = counts;
    Ok(json!({
        "passed": passed, "failed": failed, "unsupported": unsupported, "ops": ops.len(), "failures": failures,
    }))
}

pub(super) use perf::roofline;

/// Failures of a test that are told one by one.
const FAILURES: usize = 50;

/// Runs `cases` behind a bar, telling what became of each, in order.
fn run_cases(
    gpus: &[Gpu],
    cases: &[Case],
    seed: u64,
    mut told: impl FnMut(&Case, Ran) -> Result<()>,
) -> Result<()> {
    let bar = output::bar(cases.len() as u64, "{bar:30} {pos} of {len}, {msg}");
    let all = testing::run_all(gpus, cases, oracle, seed, |case, ran| {
        if interrupt::asked() {
            return Err(Error::Interrupted);
        }
        bar.set_message(case.op);
        bar.inc(1);
        bar.suspend(|| told(case, ran))
    });
    bar.finish_and_clear();
    all
}

/// The fields of `report`, after those that say where it was made.
fn with_device(gpu: &Gpu, report: Value) -> Value {
    let mut all =
        json!({ "device": report::caps_json(gpu.caps()), "budget": report::budget_json(gpu.budget()) });
    if let (Value::Object(all), Value::Object(report)) = (&mut all, report) {
        all.extend(report);
    }
    all
}

/// Dequantises with the readers of `weft-formats`, which were checked against the gguf package.
fn oracle(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    let ty = quant::Type::parse(ty.name()).expect("every weight type is one that formats knows");
    quant::dequantize(ty, bytes, out).expect("the registry makes whole blocks");
}

/// Whether `text` matches `pattern`, in which `*` is any run of characters and `?` any one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which beginnings of the pattern match the text so far.
    let mut matches: Vec<bool> =
        (0..=pattern.len()).map(|n| pattern[..n].iter().all(|c| *c == '*')).collect();
    for t in &text {
        let mut before = std::mem::replace(&mut matches[0], false);
        for (n, p) in pattern.iter().enumerate() {
            let here = match p {
                '*' => matches[n] || matches[n + 1],
                p => before && (*p == '?' || p == t),
            };
            before = std::mem::replace(&mut matches[n + 1], here);
        }
    }
    matches[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("*", "matmul", true),
            ("mat*", "matmul", true),
            ("*mul", "matmul", true),
            ("m?tmul", "matmul", true),
            ("mat", "matmul", false),
            ("r*p?", "rope", true),
            ("", "rope", false),
            ("", "", true),
            ("**", "", true),
            ("*o*e*", "rope", true),
            ("*x*", "rope", false),
            (&"*".repeat(1000), "rope", true),
            (&format!("{}a", "*".repeat(1000)), "rope", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
