//! Every case of every op, on this machine's GPU or lavapipe, with naga's checks on and off, and under
//! a budget so small that everything that can split does.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use weft_kernels::perf::{self, Effort, Product};
use weft_kernels::registry::{cases, gradients};
use weft_kernels::testing::{self, Case, Outcome, each_cell, each_kind, first_of_kinds, quick};
use weft_kernels::{Budget, WeightType};
use weft_runtime::{Caps, DeviceKind, Gpu, Options, Profile, Without};

fn oracle(ty: WeightType, bytes: &[u8], out: &mut [f32]) {
    let ty = weft_formats::quant::Type::parse(ty.name()).expect("a type that formats knows");
    weft_formats::quant::dequantize(ty, bytes, out).expect("valid blocks");
}

/// Whether every case of every table is tried, as `WEFT_TEST_CASES=all` asks.
pub(crate) fn whole() -> bool {
    std::env::var_os("WEFT_TEST_CASES").is_some_and(|v| v == "all")
}

/// Runs cases and returns those that had no plan; panics if one failed. Those that passed before are left out
/// ([`Passed`]).
pub(crate) fn run_all(options: &Options, cases: Vec<Case>) -> Vec<String> {
    // One table at a time, on all cores: the next finds its shaders in the driver's cache.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let options = Options { traced: true, ..options.clone() };
    let gpus = pollster::block_on(testing::devices(&options)).expect("a Vulkan adapter");
    let mut passed = Passed::read(gpus[0].caps(), options.checked);
    let (mut failed, mut unsupported) = (Vec::new(), Vec::new());
    let line = |case: &Case, what: String| {
        format!("{} {} {} {}: {what}", case.op, case.variant, case.ty.unwrap_or_default(), case.name)
    };
    let cases = if passed.hashes.is_empty() {
        cases
    } else {
        // The same recordings and references, and nothing compiled or run.
        let options = Options { stand_in: Some(gpus[0].caps().clone()), ..options.clone() };
        let recorders = pollster::block_on(testing::devices(&options)).expect("a Vulkan adapter");
        let mut known = HashSet::new();
        testing::run_all(&recorders, &cases, oracle, 0, |case, ran| {
            if let Outcome::Unsupported(why) = ran.outcome {
                unsupported.push(line(case, why));
                known.insert((case.cell(), case.name.clone()));
            } else if ran.trace.is_some_and(|t| passed.hashes.contains(&passed.key(case, t))) {
                known.insert((case.cell(), case.name.clone()));
            }
            Ok::<(), ()>(())
        })
        .expect("never stopped");
        cases.into_iter().filter(|c| !known.contains(&(c.cell(), c.name.clone()))).collect()
    };
    testing::run_all(&gpus, &cases, oracle, 0, |case, ran| {
        match ran.outcome {
            Outcome::Passed(_) => passed.add(case, ran.trace.expect("traced")),
            Outcome::Failed(nmse) => {
                failed.push(line(case, format!("NMSE {nmse:e} over {:e}", case.tolerance)));
            }
            Outcome::Error(e) => failed.push(line(case, e)),
            Outcome::Unsupported(why) => unsupported.push(line(case, why)),
        }
        Ok::<(), ()>(())
    })
    .expect("never stopped");
    passed.write();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed[..failed.len().min(20)].join("\n"));
    unsupported
}

/// The cases that passed before: hashes of what decides about a case, which are its composed shaders, parameters,
/// inputs and reference ([`Case::run_traced`]), the files that compare, the runtime, what compiles shaders, and the
/// device with its driver and limits.
struct Passed {
    file: PathBuf,
    salt: u64,
    hashes: HashSet<u64>,
    new: Vec<u64>,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The texts of the files of a folder of this crate, in order.
fn texts(folder: &str, takes: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|f| f.expect("a file").path()).collect();
    paths.retain(|p| p.is_file() && takes(&p.file_name().unwrap_or_default().to_string_lossy()));
    paths.sort();
    paths.iter().map(|p| std::fs::read_to_string(p).expect("a text")).collect()
}

impl Passed {
    /// From `WEFT_TEST_CACHE`, or a file under `target/`. What a shader uses of features stands in its text, so a case
    /// that is the same on a device without some of them passed with them.
    fn read(caps: &Caps, checked: bool) -> Passed {
        let own = || Path::new(env!("CARGO_TARGET_TMPDIR")).join("cases-passed.txt");
        let file = std::env::var_os("WEFT_TEST_CACHE").map_or_else(own, PathBuf::from);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let sources = ["src/testing", "../runtime/src"].map(|folder| texts(folder, |f| f.ends_with(".rs")));
        let plain =
            Caps { f16: false, subgroups: None, dot: false, coop: Vec::new(), texels: false, ..caps.clone() };
        let salt = hash((format!("{plain:?}"), checked, sources, texts("..", |f| f == "Cargo.lock")));
        let hashes = text.lines().filter_map(|l| u64::from_str_radix(l, 16).ok()).collect();
        Passed { file, salt, hashes, new: Vec::new() }
    }

    /// What is kept of a case with this trace.
    fn key(&self, case: &Case, trace: u64) -> u64 {
        // The op's own reference and cases, by the folder that has the op's name in it.
        static FILES: OnceLock<Vec<[String; 2]>> = OnceLock::new();
        let files = FILES.get_or_init(|| {
            let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
            let folders = std::fs::read_dir(ops).expect("the ops").map(|f| f.expect("a folder").path());
            let read = |folder: &Path, name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            let mut all: Vec<_> = folders
                .filter(|f| f.is_dir())
                .map(|f| [read(&f, "cases.rs"), read(&f, "reference.rs")])
                .collect();
            all.sort();
            all
        });
        let name = format!("\"{}\"", case.op);
        let own: Vec<_> = files.iter().filter(|f| f[0].contains(&name)).collect();
        hash((self.salt, trace, own))
    }

    fn add(&mut self, case: &Case, trace: u64) {
        let key = self.key(case, trace);
        self.new.push(key);
    }

    /// Adds the new ones to the file, which a test may miss and be slower.
    fn write(&self) {
        let lines: String = self.new.iter().map(|h| format!("{h:016x}\n")).collect();
        let file = std::fs::File::options().create(true).append(true).open(&self.file);
        if let Err(e) = file.and_then(|mut f| f.write_all(lines.as_bytes())) {
            eprintln!("{}: {e}", self.file.display());
        }
    }
}

/// Nothing of `cases` may be unsupported but what the device lacks, and exactly that.
fn assert_unsupported(options: &Options, cases: impl Fn() -> Vec<Case>, other: Option<usize>) {
    let named = |c: &Case, what: &str| match what.strip_prefix("op ") {
        Some(op) => c.op == op,
        None => c.variant.starts_with(what) || c.name.ends_with(what),
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
        let tiled = if variant == "coop" { cases_of("direct") + cases_of("sliced") } else { 0 };
        assert_eq!(all - rest.len(), if lacks { cases_of(variant) + tiled } else { 0 }, "{why}");
    }
    // Without shuffles, sums take a place in workgroup memory for each lane, and eight tokens' more than some devices have.
    let (all, few) = (rest.len(), "workgroups are too small for so many tokens");
    rest.retain(|l| !l.contains(few));
    assert!(all == rest.len() || gpu.caps().subgroups.is_none(), "{few}");
    let mut halves = vec!["tiled_f16", "out_f16", "out_tiles", "op tile"];
    // Attention that writes tiles needs subgroups as well.
    if gpu.caps().subgroups.is_some() {
        halves.extend(["out tiles8", "out tiles16"]);
    }
    for (why, there, variants) in [
        ("no f16", gpu.caps().f16, &halves[..]),
        ("no packed int8 dot product", gpu.caps().dot, &["matvec_dot", "tiled_dot", "chain"]),
    ] {
        let all = rest.len();
        rest.retain(|l| !l.contains(why));
        let lacking = variants.iter().map(|v| cases_of(v)).sum();
        assert_eq!(all - rest.len(), if there { 0 } else { lacking }, "{why}");
    }
    let (count, all) = (rest.len(), cases().len());
    let as_expected = other.map_or(count * 4 < all, |other| count == other);
    assert!(as_expected, "support changed: {count} of {all}\n{}", rest.join("\n"));
}

/// All cases of each kind of weight type, some of the other types; with `WEFT_TEST_CASES=all`, all.
#[test]
fn cases_pass() {
    assert_unsupported(&Options::default(), || if whole() { cases() } else { each_kind(cases()) }, Some(0));
}

/// Some of the quick cases without each of the features; without all of them they run with checks.
#[test]
fn quick_cases_pass_without_features() {
    for without in ["f16", "subgroups", "dot", "coop,texels"] {
        let without = Without::parse(without).expect("features");
        let some = || each_cell(quick(cases()));
        assert_unsupported(&Options { without, ..Options::default() }, some, Some(0));
    }
}

/// With naga's checks, whose shaders are others, on what every WebGPU device has.
#[test]
fn quick_cases_pass_with_checks_on_core_webgpu() {
    let without = Without { dot: false, ..Without::ALL };
    let options = Options { checked: true, profile: Some(Profile::WebGpu), without, ..Options::default() };
    assert_unsupported(&options, || quick(cases()), Some(0));
}

/// One type of each kind; with `WEFT_TEST_CASES=all`, all.
#[test]
fn cases_pass_when_everything_splits() {
    // What cannot be split: products of a chain that end in integers, rows of logits, tables of angles, the
    // splits of an attention, a decode step whose cache is several chunks, slots and gathers whose rows or ids begin
    // at aligned offsets too seldom, and parts of sums, which are made only where nothing is cut.
    let budget = Budget { max_binding: 96 << 10, max_workgroups: 64, ..Budget::WEBGPU };
    let options = Options { budget: Some(budget), ..Options::default() };
    match whole() {
        true => assert_unsupported(&options, cases, Some(188)),
        false => assert_unsupported(&options, || first_of_kinds(cases()), None),
    }
}

/// What computes gradients computes those of the forward op, by differences of its reference.
#[test]
fn gradients_are_those_of_differences() {
    // Differences take the host long; of each op and variant, and each kind of type, some cases tell. What is like them
    // of other types is compared with the same references by `cases_pass`.
    let kinds: HashSet<_> = first_of_kinds(gradients()).iter().map(Case::cell).collect();
    let some = || each_cell(gradients()).into_iter().filter(|c| kinds.contains(&c.cell())).collect();
    let ran: Vec<Case> = if whole() { gradients() } else { some() };
    let backward =
        |c: &Case| ["_dx", "_backward", "_grad_", "cross_entropy"].iter().any(|part| c.op.contains(part));
    let cells =
        |cases: Vec<Case>| cases.iter().filter(|c| backward(c)).map(Case::cell).collect::<HashSet<_>>();
    assert_eq!(cells(cases()), cells(gradients()), "make these with Case::backward");
    // Matrices are also what tiles go straight into.
    let coop = ran.iter().filter(|c| ["coop", "direct"].iter().any(|v| c.variant.starts_with(v))).count();
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
    assert_eq!(cells(each_cell(cases())), cells(cases()));
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
            let seconds = perf::product(&gpu, &Effort { sets: 3, dispatches: 4, ..effort }, &product);
            assert!(seconds.as_ref().is_ok_and(|&(s, _)| s > 0.0), "{product:?}: {seconds:?}");
        }
    }
}

/// A case that is only recorded has the trace of one that runs, and any change of it another.
#[test]
fn traces_tell_cases_apart() {
    let options = Options { traced: true, ..Options::default() };
    let gpu = pollster::block_on(weft_kernels::open(&options)).expect("a Vulkan adapter");
    let stand_in = Options { stand_in: Some(gpu.caps().clone()), ..options };
    let recorder = pollster::block_on(weft_kernels::open(&stand_in)).expect("a Vulkan adapter");
    let mut seen = HashSet::new();
    let all = each_cell(cases());
    for case in all.iter().filter(|c| ["embed", "rmsnorm", "glu", "sample"].contains(&c.op)).step_by(5) {
        let (ran, trace) = case.run_traced(&gpu, oracle, 0);
        assert!(
            matches!(ran, Outcome::Passed(_) | Outcome::Unsupported(_)),
            "{} {}: {ran:?}",
            case.op,
            case.name
        );
        let recorded = case.run_traced(&recorder, oracle, 0).1;
        assert_eq!(trace, recorded, "{} {}", case.op, case.name);
        assert!(seen.insert(trace), "{} {}", case.op, case.name);
        assert!(
            seen.insert(case.run_traced(&recorder, oracle, 1).1),
            "{} {}: another seed",
            case.op,
            case.name
        );
    }
    assert!(seen.len() > 10, "{} traces", seen.len());
}
