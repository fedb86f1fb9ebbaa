//! `weft kernels`: every op against its double-precision reference, on this device.

use clap::{Args, Subcommand};
use serde_json::json;
use weft_formats::quant;
use weft_kernels::WeightType;
use weft_kernels::registry::{Outcome, cases};
use weft_runtime::Gpu;

use crate::options::DeviceFlags;
use crate::{Error, Result, interrupt, output, report};

/// Check the GPU kernels
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft kernels test
  weft kernels test --op 'mat*' --limits adreno --without f16,subgroups")]
pub(super) struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every case of every op against its reference in double precision
    ///
    /// The last line counts: `N passed, N failed, N unsupported`. The exit code is 1 if any failed.
    #[command(after_help = "Examples:
  weft kernels test
  weft kernels test --op attention --json
  weft kernels test --op 'r*' --device nvidia")]
    Test(Test),
}

#[derive(Debug, Args)]
struct Test {
    /// Only the ops whose name matches; * stands for anything, ? for one character
    #[arg(long, value_name = "GLOB", default_value = "*")]
    op: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
}

pub(super) fn run(f: Flags) -> Result<()> {
    let Command::Test(f) = f.command;
    interrupt::install(2);
    let cases: Vec<_> = cases().into_iter().filter(|c| glob(&f.op, c.op)).collect();
    if cases.is_empty() {
        let mut known: Vec<_> = weft_kernels::registry::cases().iter().map(|c| c.op).collect();
        known.dedup();
        return Err(Error::input(format!("no op matches {:?} (known: {})", f.op, known.join(", "))));
    }
    let gpu = pollster::block_on(Gpu::open(&f.device.options()))?;
    let bar = output::bar(cases.len() as u64, "{bar:30} {pos} of {len}, {msg}");
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    let mut rows = Vec::new();
    for case in &cases {
        if interrupt::asked() {
            bar.finish_and_clear();
            return Err(Error::Interrupted);
        }
        bar.set_message(case.op);
        let (count, word, detail) = match case.run(&gpu, oracle) {
            Outcome::Passed(nmse) => (&mut passed, "passed", format!("NMSE {nmse:.1e}")),
            Outcome::Failed(nmse) => {
                (&mut failed, "FAILED", format!("NMSE {nmse:.1e}, allowed {:.0e}", case.tolerance))
            }
            Outcome::Unsupported(why) => (&mut unsupported, "unsupported", why),
            Outcome::Error(what) => (&mut failed, "FAILED", crate::error::one_line(&what)),
        };
        *count += 1;
        bar.inc(1);
        if f.json {
            rows.push(json!({
                "op": case.op,
                "case": case.name,
                "type": case.ty.map(WeightType::name),
                "outcome": word.to_lowercase(),
                "detail": detail,
            }));
        } else {
            bar.suspend(|| output::line(&format!("{word:<12} {:<12} {}: {detail}", case.op, case.name)))?;
        }
    }
    bar.finish_and_clear();
    if f.json {
        output::json(&json!({
            "device": report::caps_json(gpu.caps()),
            "budget": report::budget_json(gpu.budget()),
            "cases": rows,
            "passed": passed,
            "failed": failed,
            "unsupported": unsupported,
        }))?;
    } else {
        output::line(&report::device_line(gpu.caps()))?;
        output::line(&format!("{passed} passed, {failed} failed, {unsupported} unsupported"))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Error::Cases { failed, total: cases.len() }),
    }
}

/// Dequantises with the readers of `weft-formats`, which were checked against the gguf package.
fn oracle(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    let ty = quant::Type::parse(ty.name()).expect("every weight type is one that formats knows");
    quant::dequantize(ty, bytes, out).expect("the registry makes whole blocks");
}

/// Whether `text` matches `pattern`, in which `*` is any run of characters and `?` any one.
fn glob(pattern: &str, text: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = chars.as_str();
            text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| glob(rest, &text[i..]))
        }
        Some(c) => {
            let mut t = text.chars();
            t.next().is_some_and(|x| c == '?' || c == x) && glob(chars.as_str(), t.as_str())
        }
    }
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
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
