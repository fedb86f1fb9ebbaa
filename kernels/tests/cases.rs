//! Every case of every op, on this machine's GPU or lavapipe, with naga's checks on and off, and under
//! a budget so small that everything that can split does.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use weft_kernels::perf::{self, Effort, Product};
use weft_kernels::registry::{cases, gradients};
use weft_kernels::testing::{self, Case, Outcome, quick};
use weft_kernels::{Budget, WeightType};
use weft_runtime::{DeviceKind, Gpu, Options, Profile, Without};

fn oracle(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    let ty = weft_formats::quant::Type::parse(ty.name()).expect("a type that formats knows");
    weft_formats::quant::dequantize(ty, bytes, out).expect("valid blocks");
}

/// Runs cases and returns those that had no plan; panics if one failed.
fn run_all(options: &Options, cases: Vec<Case>) -> Vec<String> {
    // One table at a time, on all cores: the next finds its shaders in the driver's cache.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gpus = pollster::block_on(testing::devices(options)).expect("a Vulkan adapter");
    let (mut failed, mut unsupported) = (Vec::new(), Vec::new());
    testing::run_all(&gpus, &cases, oracle, 0, |case, outcome, _| {
        let ty = case.ty.unwrap_or_default();
        let line = |what: String| format!("{} {} {ty} {}: {what}", case.op, case.variant, case.name);
        match outcome {
            Outcome::Passed(_) => {}
            Outcome::Failed(nmse) => failed.push(line(format!("NMSE {nmse:e} over {:e}", case.tolerance))),
            Outcome::Error(e) => failed.push(line(e)),
            Outcome::Unsupported(why) => unsupported.push(line(why)),
        }
        Ok::<(), ()>(())
    })
    .expect("never stopped");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed[..failed.len().min(20)].join("\n"));
    unsupported
}

/// Of `cases` nothing may be unsupported but what the device lacks, and exactly that.
fn assert_unsupported(options: &Options, cases: fn() -> Vec<Case>, other: usize) {
    let named = |c: &Case, what: &str| match what.strip_prefix("op ") {
        Some(op) => c.op == op,
        None => c.variant.starts_with(what),
    };
    let cases_of = |what: &str| cases().iter().filter(|c| named(c, what)).count();
    let gpu = pollster::block_on(Gpu::open(options)).expect("a Vulkan adapter");
    let mut rest = run_all(options, cases());
    // Subgroups with fewer invocations than two matrices have rows.
    let least = gpu.caps().subgroups.map_or(0, |s| s.0);
    let small = gpu.caps().coop.iter().map(|c| c.m).max().is_some_and(|side| least < 2 * side);
    for (variant, lacks, why) in [
        ("coop", gpu.caps().coop.is_empty(), "no cooperative matrices"),
        ("coop_wide", small, "subgroups are smaller"),
        ("broadcast", gpu.caps().subgroups.is_none(), "no subgroups of one size"),
        ("decode", gpu.caps().subgroups.is_none(), "no subgroups"),
    ] {
        let all = rest.len();
        rest.retain(|l| !l.contains(why));
        // Matrices are also what tiles go straight into.
        let direct = if variant == "coop" { cases_of("direct") } else { 0 };
        assert_eq!(all - rest.len(), if lacks { cases_of(variant) + direct } else { 0 }, "{why}");
    }
    for (why, there, variants) in [
        ("no f16", gpu.caps().f16, &["tiled_f16", "out_f16", "out_tiles", "op tile"][..]),
        ("no packed int8 dot product", gpu.caps().dot, &["matvec_dot", "tiled_dot", "chain"]),
    ] {
        let all = rest.len();
        rest.retain(|l| !l.contains(why));
        let lacking = variants.iter().map(|v| cases_of(v)).sum();
        assert_eq!(all - rest.len(), if there { 0 } else { lacking }, "{why}");
    }
    assert_eq!(rest.len(), other, "support changed:\n{}", rest.join("\n"));
}

#[test]
fn all_cases_pass() {
    assert_unsupported(&Options::default(), cases, 0);
}

/// The quick cases without each of the features, and without all of them.
#[test]
fn quick_cases_pass_without_features() {
    for without in ["f16", "subgroups", "dot", "coop,texels", "f16,subgroups,dot,coop"] {
        let without = Without::parse(without).expect("features");
        let quick = || quick(cases());
        assert_unsupported(&Options { without, ..Options::default() }, quick, 0);
    }
}

/// With naga's checks, whose shaders are others, on what every WebGPU device has.
#[test]
fn quick_cases_pass_with_checks_on_core_webgpu() {
    let without = Without { dot: false, ..Without::ALL };
    let options = Options { checked: true, profile: Some(Profile::WebGpu), without, ..Options::default() };
    assert_unsupported(&options, || quick(cases()), 0);
}

#[test]
fn all_cases_pass_when_everything_splits() {
    // What cannot be split: products of a chain that end in integers, rows of logits, tables of angles, the
    // splits of an attention, a decode step whose cache is several chunks, streams and gathers whose rows or ids begin
    // at aligned offsets too seldom, and parts of sums, which are made only where nothing is cut.
    let budget = Budget { max_binding: 96 << 10, max_workgroups: 64, ..Budget::WEBGPU };
    assert_unsupported(&Options { budget: Some(budget), ..Options::default() }, cases, 188);
}

/// What computes gradients computes those of the forward op, by differences of its reference.
#[test]
fn gradients_are_those_of_differences() {
    let ran = gradients();
    let backward =
        |c: &Case| ["_dx", "_backward", "_grad_", "cross_entropy"].iter().any(|part| c.op.contains(part));
    let cells =
        |cases: Vec<Case>| cases.iter().filter(|c| backward(c)).map(Case::cell).collect::<HashSet<_>>();
    assert_eq!(cells(cases()), cells(gradients()), "make these with Case::backward");
    let coop = ran.iter().filter(|c| c.variant.starts_with("coop")).count();
    let options = Options::default();
    let lacks = pollster::block_on(Gpu::open(&options)).expect("a Vulkan adapter").caps().coop.is_empty();
    assert_eq!(run_all(&options, ran).len(), if lacks { coop } else { 0 });
}

/// `--quick` leaves out cases, but no op in any variant, and no type.
#[test]
fn the_quick_cases_touch_everything() {
    let of = |cases: Vec<Case>| {
        let variants: HashSet<_> = cases.iter().map(|c| (c.op, c.variant)).collect();
        let types: HashSet<_> = cases.iter().map(|c| (c.op.starts_with("matmul"), c.ty)).collect();
        (variants, types)
    };
    assert_eq!(of(quick(cases())), of(cases()));
    assert!(quick(cases()).len() * 4 < cases().len());
    let cells = |cases: Vec<Case>| cases.iter().map(Case::cell).collect::<HashSet<_>>();
    assert_eq!(cells(testing::each_cell(cases())), cells(cases()));
}

/// Another seed is another input, with another rounding error; the same one is the same.
#[test]
fn seeds_change_the_inputs() {
    let gpu = pollster::block_on(Gpu::open(&Options::default())).expect("a Vulkan adapter");
    let inexact = ["rmsnorm", "rope", "glu", "attention"];
    let mut tried = 0;
    for case in quick(cases()).iter().filter(|c| inexact.contains(&c.op)).step_by(3) {
        let at = |seed| case.run(&gpu, oracle, seed);
        let Outcome::Passed(nmse) = at(0) else { continue };
        assert_eq!(at(0), Outcome::Passed(nmse), "{} {}", case.op, case.name);
        tried += usize::from(at(1) != Outcome::Passed(nmse));
    }
    assert!(tried >= 3, "seeds changed {tried} cases");
}

/// Every op in every variant is measured, and what lies between the products runs.
#[test]
fn every_op_is_measured() {
    let gpu = pollster::block_on(Gpu::open(&Options::default())).expect("a Vulkan adapter");
    let products = perf::products(64).into_iter().map(|p| (p.direction.op(), p.variant.name()));
    let attentions = perf::attentions(gpu.caps(), 256).into_iter().map(|a| (a.op(), a.variant()));
    let others = perf::ops::ops(DeviceKind::Cpu);
    let measured: HashSet<_> =
        products.chain(attentions).chain(others.iter().map(|o| (o.op, o.variant))).collect();
    let there: HashSet<_> = cases().iter().map(|c| (c.op, c.variant)).collect();
    assert_eq!(there.difference(&measured).collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
    let effort = Effort { at_least: Duration::ZERO, ..Effort::of(DeviceKind::Cpu, true) };
    let lacks = |o: &perf::ops::Op| o.variant == "coop" && gpu.caps().coop.is_empty();
    for o in others.iter().filter(|o| !lacks(o)) {
        let s = perf::ops::measure(&gpu, &effort, o);
        assert!(s.as_ref().is_ok_and(|&s| s > 0.0), "{} {} {}: {s:?}", o.op, o.variant, o.shape);
    }
}

/// What `perf` measures runs, splits included, and takes time.
#[test]
fn products_are_measured() {
    let at_least = Duration::ZERO;
    let effort = Effort { side: 64, copy: 1 << 20, at_least, ..Effort::of(DeviceKind::Cpu, true) };
    for budget in [Budget::WEBGPU, Budget { max_binding: 96 << 10, ..Budget::WEBGPU }] {
        let gpu = pollster::block_on(Gpu::open(&Options { budget: Some(budget), ..Options::default() }))
            .expect("a Vulkan adapter");
        assert!(perf::copy_rate(&gpu, &effort).expect("a copy") > 0.0);
        // A type of each kind, as all take shaders of their own: those whose every tile the cases have compiled.
        let types = [WeightType::F16, WeightType::Q8_0, WeightType::Q4_K, WeightType::Q6_K];
        for product in perf::products(64).into_iter().filter(|p| types.contains(&p.ty)) {
            let product = Product { rows: product.rows.min(96), cols: product.cols.min(512), ..product };
            let type_fits = (product.cols as usize).is_multiple_of(product.ty.layout().block);
            if !type_fits || product.variant.supports(gpu.caps(), product.ty, product.tokens).is_err() {
                continue;
            }
            let seconds = perf::product(&gpu, &Effort { slots: 3, dispatches: 4, ..effort }, &product);
            assert!(seconds.as_ref().is_ok_and(|&(s, _)| s > 0.0), "{product:?}: {seconds:?}");
        }
    }
}
