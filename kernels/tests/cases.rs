//! Every case of every op, on this machine's GPU or lavapipe, with naga's checks on and off, and under
//! a budget so small that everything that can split does.

use weft_kernels::registry::{Outcome, cases};
use weft_kernels::{Budget, WeightType};
use weft_runtime::{Gpu, Options, Profile, Without};

fn oracle(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    let ty = weft_formats::quant::Type::parse(ty.name()).expect("a type that formats knows");
    weft_formats::quant::dequantize(ty, bytes, out).expect("valid blocks");
}

/// Runs all cases and returns those that had no plan; panics if one failed.
fn run_all(options: &Options) -> Vec<String> {
    let gpu = pollster::block_on(Gpu::open(options)).expect("a Vulkan adapter");
    let (mut failed, mut unsupported) = (Vec::new(), Vec::new());
    for case in cases() {
        let ty = case.ty.unwrap_or_default();
        let line = |what: String| format!("{} {} {ty} {}: {what}", case.op, case.variant, case.name);
        match case.run(&gpu, oracle, 0) {
            Outcome::Passed(_) => {}
            Outcome::Failed(nmse) => failed.push(line(format!("NMSE {nmse:e} over {:e}", case.tolerance))),
            Outcome::Error(e) => failed.push(line(e)),
            Outcome::Unsupported(why) => unsupported.push(line(why)),
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed[..failed.len().min(20)].join("\n"));
    unsupported
}

/// Cases that need cooperative matrices: all of them are unsupported where the device has none.
fn coop_cases() -> usize {
    cases().iter().filter(|c| c.variant == "coop").count()
}

/// Nothing may be unsupported but what the device lacks, and exactly that.
fn assert_unsupported(options: &Options, other: usize) {
    let gpu = pollster::block_on(Gpu::open(options)).expect("a Vulkan adapter");
    let lacking = if gpu.caps().coop.is_empty() { coop_cases() } else { 0 };
    let (coop, rest): (Vec<_>, Vec<_>) =
        run_all(options).into_iter().partition(|l| l.contains("no cooperative matrices"));
    assert_eq!(coop.len(), lacking);
    assert_eq!(rest.len(), other, "support changed:\n{}", rest.join("\n"));
}

#[test]
fn all_cases_pass() {
    assert_unsupported(&Options::default(), 0);
}

#[test]
fn all_cases_pass_with_checks_on_core_webgpu() {
    let without = Without { dot: false, ..Without::ALL };
    let options = Options { checked: true, profile: Some(Profile::WebGpu), without, ..Options::default() };
    assert_unsupported(&options, 0);
}

#[test]
fn all_cases_pass_when_everything_splits() {
    // What cannot be split: rows of logits, tables of angles and the parts of an attention that are
    // larger than the whole binding.
    let budget = Budget { max_binding: 96 << 10, max_workgroups: 64, ..Budget::WEBGPU };
    assert_unsupported(&Options { budget: Some(budget), ..Options::default() }, 39);
}
