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
        let line = |what: String| format!("{} {}: {what}", case.op, case.name);
        match case.run(&gpu, oracle) {
            Outcome::Passed(_) => {}
            Outcome::Failed(nmse) => failed.push(line(format!("NMSE {nmse:e} over {:e}", case.tolerance))),
            Outcome::Error(e) => failed.push(line(e)),
            Outcome::Unsupported(why) => unsupported.push(line(why)),
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed[..failed.len().min(20)].join("\n"));
    unsupported
}

#[test]
fn all_cases_pass() {
    assert_eq!(run_all(&Options::default()), Vec::<String>::new());
}

#[test]
fn all_cases_pass_with_checks_on_core_webgpu() {
    let options = Options {
        checked: true,
        profile: Some(Profile::WebGpu),
        without: Without::ALL,
        ..Options::default()
    };
    assert_eq!(run_all(&options), Vec::<String>::new());
}

#[test]
fn all_cases_pass_when_everything_splits() {
    let budget = Budget { max_binding: 96 << 10, max_workgroups: 64, ..Budget::WEBGPU };
    let unsupported = run_all(&Options { budget: Some(budget), ..Options::default() });
    // What cannot be split: rows of logits and scratch larger than the whole binding.
    for line in &unsupported {
        println!("unsupported: {line}");
    }
    assert_eq!(unsupported.len(), 39, "support changed:\n{}", unsupported.join("\n"));
}
