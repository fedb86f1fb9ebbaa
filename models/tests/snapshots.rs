//! What is recorded, pinned: grids and the bytes of each binding, for every golden model on stand-ins of devices, with
//! the memory that is planned; of one model the kernels' names as well. Nothing runs, so that kernels which no software GPU has are pinned as
//! well. A change that is meant is written with `WEFT_SNAPSHOTS=write cargo test -p weft-models --test main
//! snapshots`; `WEFT_SNAPSHOTS=FOLDER` leaves every listing there in full, to be compared with another commit's.

use std::fmt::Write as _;
use std::path::Path;

use weft_formats::adapter::Pair;
use weft_models::engine::{Engine, Options as Room};
use weft_models::train::{Adapter, Checkpointing, Target, TrainOptions, Trainer};
use weft_models::{AdapterFile, CacheType, DeviceOptions, Model, Options, Profile};
use weft_runtime::{Budget, Caps, Coop, DeviceKind, Pool, Recorder};

use crate::golden_model::{build, cases};

const CONTEXT: u32 = 2048;

/// Devices that exist in no machine, so that what is picked for them depends on no driver.
fn devices() -> Vec<(&'static str, Caps, Option<bool>)> {
    let large = Budget {
        max_binding: (1 << 31) - 256,
        max_buffer: 1 << 40,
        workgroup_bytes: 48 << 10,
        max_invocations: 1024,
        ..Budget::WEBGPU
    };
    let mut matrices = Caps::core(DeviceKind::Discrete, &large);
    (matrices.f16, matrices.dot, matrices.immediates) = (true, true, true);
    matrices.subgroups = Some((32, 32));
    matrices.coop = vec![Coop { m: 16, n: 16, k: 16, f32_accumulate: true }];
    matrices.memory = Some(141 << 30);
    matrices.limits.max_immediate_size = 128;
    let mut small = matrices.clone();
    (small.kind, small.coop, small.memory) = (DeviceKind::Integrated, Vec::new(), None);
    let mut software = small.clone();
    (software.kind, software.subgroups) = (DeviceKind::Cpu, Some((8, 8)));
    let bare = |p: Profile| Caps::core(DeviceKind::Other, &p.budget());
    vec![
        ("matrices", matrices, None),
        ("integers", small, Some(true)),
        ("software", software, None),
        ("bare-webgpu", bare(Profile::WebGpu), Some(false)),
        ("bare-mali", bare(Profile::Mali), Some(false)),
        ("bare-adreno", bare(Profile::Adreno), Some(false)),
        ("bare-minimal", bare(Profile::Minimal), Some(false)),
    ]
}

fn open(case: &str, caps: &Caps, integers: Option<bool>, cache: Option<CacheType>) -> Model {
    let device = DeviceOptions { stand_in: Some(caps.clone()), ..DeviceOptions::default() };
    let options =
        Options { device, chunk: Some(256), context: Some(CONTEXT), cache, integers, ..Options::default() };
    Model::begin(build(case), &options).unwrap().outline()
}

/// An adapter of rank 5 on two matrices of every layer.
fn adapter(model: &Model) -> AdapterFile {
    let c = model.spec();
    // Experts take no adapters.
    let second = if c.has_experts() { Target::O } else { Target::Down };
    let targets = (0..c.layers()).flat_map(|l| [(l, Target::Q), (l, second)]);
    let pair = |(layer, t): (u32, Target)| {
        let (rows, cols) = (t.outputs(c) as usize, t.inputs(c) as usize);
        let (a, b) = (vec![0.5; 5 * cols], vec![0.5; rows * 5]);
        Pair { tensor: t.tensor(layer), rank: 5, rows, cols, a, b }
    };
    AdapterFile { alpha: 4.0, rslora: false, pairs: targets.map(pair).collect() }
}

type Recordings = Vec<(String, Recorder)>;

fn session(model: &Model, what: &str, all: &mut Recordings) {
    let s = model.session(CONTEXT).unwrap();
    for (tokens, positions) in [(1, 60), (1, 1500), (7, 300), (40, 40), (256, 256)] {
        let recordings = s.recordings(tokens, positions).unwrap();
        all.extend(recordings.into_iter().map(|(n, r)| (format!("{what}{n} at {positions}"), r)));
    }
}

fn slots(model: &Model, what: &str, rows: &[u32], all: &mut Recordings) {
    let room = Room { slots: 64, context: Some(128), ..Room::default() };
    let engine = Engine::new(model, &room).unwrap();
    for &n in rows {
        all.push((format!("{what}{n} slots"), engine.recording(n, 128).unwrap()));
    }
}

/// Training, and its plan in a line.
fn training(model: &Model, targets: &[Target], options: TrainOptions, all: &mut Recordings) -> String {
    let mut adapter = Adapter::new(model.spec(), targets, 8, 16.0, false, 1);
    let checkpointing = options.checkpointing == Checkpointing::Every;
    let size = if options.tokens > 128 { format!("of {} ", options.tokens) } else { String::new() };
    let what = format!("training {size}{} {checkpointing} {}", targets.len(), options.dropout);
    if options.dropout > 0.0 {
        // Layers below the first adapter keep nothing.
        adapter.pairs.retain(|p| p.layer > 0);
    }
    let trainer = Trainer::new(model, &adapter, &options).unwrap();
    let recordings = trainer.recordings().unwrap();
    all.extend(recordings.into_iter().map(|(n, r)| (format!("{what} {n}"), r)));
    let p = trainer.plan();
    format!("{what}: {} + {} + {} + {}", p.adapters, p.optimiser, p.activations, p.scratch)
}

/// A dispatch a line.
fn lines(rec: &Recorder) -> String {
    let mut text = String::new();
    for (name, [x, y, z], bindings) in rec.listing() {
        writeln!(text, "  {name} {x} x {y} x {z} of {bindings:?}").unwrap();
    }
    text
}

/// FNV-1a, 32 bits, of all but the kernels' names, which may change where nothing else does.
fn hash(text: &str) -> u32 {
    let rest = |line: &str| match line.strip_prefix("  ").and_then(|l| l.split_once(' ')) {
        Some((_, rest)) => rest.to_owned(),
        None => line.to_owned(),
    };
    text.lines()
        .flat_map(|l| rest(l).into_bytes())
        .fold(0x811C_9DC5, |h: u32, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// Everything that a model records on a device, in full and as a line for each program.
fn record(case: &str, device: &(&str, Caps, Option<bool>)) -> (String, String) {
    let (name, caps, integers) = device;
    let mut all = Recordings::new();
    let model = open(case, caps, *integers, None);
    session(&model, "", &mut all);
    slots(&model, "", &[1, 2, 16, 64], &mut all);
    let importance = model.importance(CONTEXT, true).unwrap();
    for tokens in [1, 256] {
        all.push((format!("importance of {tokens}"), importance.recording(tokens).unwrap()));
    }
    drop(importance);
    let gpu = model.gpu();
    let used = gpu.memory().pools.iter().map(|(p, r)| (*p, r.used)).collect::<Vec<_>>();
    if model.spec().head_dim().is_multiple_of(32) {
        let cached = open(case, caps, *integers, Some(CacheType::Q8_0));
        slots(&cached, "q8_0 ", &[2], &mut all);
    }
    let adapted = model.with_adapters(&[(&adapter(&model), 1.0)]).unwrap();
    session(&adapted, "adapted ", &mut all);
    slots(&adapted, "adapted ", &[4], &mut all);
    // The smallest buffers hold no more of these.
    let tokens = if case.starts_with("gemma3") { 64 } else { 128 };
    let options = TrainOptions { tokens, ..TrainOptions::default() };
    let mut plans = Vec::new();
    let most = Target::of(model.spec());
    for (targets, checkpointing, dropout) in
        [(most, true, 0.0), (most, false, 0.0), (&Target::ATTENTION, true, 0.1)]
    {
        // A soft cap of logits has no gradient yet.
        if model.spec().out.softcap.is_some() {
            continue;
        }
        let options = TrainOptions { checkpointing: checkpointing.into(), dropout, ..options };
        plans.push(training(&model, targets, options, &mut all));
    }
    // A batch of 256 tokens is laid in tiles.
    if *name == "matrices" && model.spec().out.softcap.is_none() && tokens == 128 {
        plans.push(training(&model, most, TrainOptions { tokens: 256, ..options }, &mut all));
    }
    for (pool, bytes) in used.into_iter().filter(|(p, _)| *p != Pool::Params) {
        plans.push(format!("{pool}: {bytes}"));
    }
    let head = format!("{case} on {name}\n");
    let (mut full, mut short) = (head.clone(), head);
    for (what, rec) in all {
        let lines = lines(&rec);
        write!(full, "{what}\n{lines}").unwrap();
        writeln!(short, "  {:08x} {:>3} {what}", hash(&lines), lines.lines().count()).unwrap();
    }
    for plan in plans {
        writeln!(full, "{plan}").unwrap();
        writeln!(short, "  {plan}").unwrap();
    }
    (full, short)
}

#[test]
fn what_is_recorded_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let how = std::env::var("WEFT_SNAPSHOTS").unwrap_or_default();
    let mut wrong = Vec::new();
    let mut compare = |name: &str, text: &str| {
        let path = folder.join(name);
        if how == "write" {
            std::fs::write(&path, text).unwrap();
            return;
        }
        let want = std::fs::read_to_string(&path).unwrap_or_default();
        if want != text {
            let differ = text.lines().zip(want.lines().chain(std::iter::repeat("nothing")));
            let differ = differ.filter(|(got, want)| got != want).take(9);
            wrong.extend(differ.map(|(got, want)| format!("{name}: {got}\n    was {want}")));
        }
    };
    let mut others = String::new();
    for device in devices() {
        let mut table = String::new();
        for case in cases() {
            let (full, short) = record(&case, &device);
            if !how.is_empty() && how != "write" {
                std::fs::create_dir_all(&how).unwrap();
                std::fs::write(Path::new(&how).join(format!("{case}.{}.txt", device.0)), &full).unwrap();
            }
            match device.0 {
                "matrices" => table += &short,
                name => others += &format!("{:08x} {case} on {name}\n", hash(&full)),
            }
            if case == "qwen3-q4_k_m" && ["matrices", "integers"].contains(&device.0) {
                compare(&format!("{case}.{}.txt", device.0), &representative(&full));
            }
        }
        if device.0 == "matrices" {
            compare("matrices.txt", &table);
        }
    }
    compare("others.txt", &others);
    assert!(wrong.is_empty(), "not as in {}:\n{}", folder.display(), wrong.join("\n"));
}

/// The programs that matter most, in full.
fn representative(full: &str) -> String {
    let wanted = [
        "token of 1 at 1500",
        "token of 256 at 256",
        "16 slots",
        "training 7 true 0 forward",
        "training 7 true 0 backward",
        "training 7 true 0 loss and gradient",
        "training of 256 7 true 0 backward",
    ];
    let mut on = false;
    let mut kept = String::new();
    for line in full.lines() {
        if !line.starts_with(' ') {
            on = wanted.contains(&line);
        }
        if on {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}
