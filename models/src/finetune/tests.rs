//! The loop with a small optimiser on the host: what it does with a run, not what training does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use weft_formats::adapter::Adapter as AdapterFile;

use super::files;
use super::*;
use crate::train::{AdamW, Adapter, AdapterShape, Batch, Losses, Pair, Target, TrainState};
use crate::{Error, Result, Spec, adapter_base};

/// Learns a hash of the batches: any other order, position or state shows in every later loss.
struct Small {
    shape: AdapterShape,
    state: TrainState,
    gradient: f32,
    /// Fails at this step and does not come past it, by its loss or by its gradient.
    fail: Option<(u64, bool)>,
    /// Fails with each batch that has this id.
    poison: Option<u32>,
    poisoned: bool,
}

impl Small {
    fn new() -> Small {
        let n = 24;
        let state = TrainState { step: 0, parameters: vec![0.5; n], m: vec![0.0; n], v: vec![0.0; n] };
        Small { shape: shape(), state, gradient: 0.0, fail: None, poison: None, poisoned: false }
    }
}

fn shape() -> AdapterShape {
    AdapterShape { rank: 2, sites: BTreeSet::from([(0, Target::Q), (1, Target::Q)]) }
}

fn spec() -> Spec {
    Spec::qwen3([2, 4, 8, 1, 1, 2, 100, 64])
}

impl TrainLoop for Small {
    fn accumulate(&mut self, batch: &Batch, scale: f32) -> Result<Losses> {
        let hash = batch.ids.iter().fold(1u32, |h, id| h.wrapping_mul(31).wrapping_add(*id)) % 1000;
        self.gradient += scale * (hash as f32 - self.state.parameters[0]);
        self.poisoned |= self.poison.is_some_and(|id| batch.ids.contains(&id));
        let l = self.evaluate(batch)?;
        let fails = self.fail == Some((self.state.step + 1, true));
        Ok(Losses { loss_sum: if fails { f64::NAN } else { l.loss_sum }, ..l })
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Losses> {
        let n = batch.ids.len() as u64;
        let sum: f32 = batch.ids.iter().map(|id| *id as f32 * self.state.parameters[1]).sum();
        Ok(Losses { loss_sum: f64::from(sum), supervised: n, correct: n / 2 })
    }

    fn step(&mut self, o: &AdamW) -> Result<f32> {
        let norm = self.gradient.abs();
        let poisoned = std::mem::take(&mut self.poisoned);
        if poisoned || self.fail.is_some_and(|(step, _)| step == self.state.step + 1) {
            self.gradient = 0.0;
            return Err(Error::NotFinite { step: self.state.step + 1 });
        }
        self.state.step += 1;
        for i in 0..self.state.parameters.len() {
            self.state.m[i] = 0.9 * self.state.m[i] + 0.1 * self.gradient;
            self.state.v[i] = 0.99 * self.state.v[i] + 0.01 * self.gradient * self.gradient;
            self.state.parameters[i] -= o.lr * self.state.m[i] / (self.state.v[i].sqrt() + o.eps);
        }
        self.gradient = 0.0;
        Ok(norm)
    }

    fn adapter(&self) -> Result<Adapter> {
        let p = &self.state.parameters;
        let pair = |layer| Pair { layer, target: Target::Q, a: p[..8].to_vec(), b: p[8..12].to_vec() };
        Ok(Adapter { rank: self.shape.rank, alpha: 4.0, rslora: false, pairs: vec![pair(0), pair(1)] })
    }

    fn state(&self) -> Result<TrainState> {
        Ok(self.state.clone())
    }

    fn restore(&mut self, state: &TrainState) -> Result<()> {
        if state.parameters.len() != self.state.parameters.len() {
            return Err(Error::Training { what: "another size".into() });
        }
        self.state = state.clone();
        Ok(())
    }

    fn memory(&self) -> u64 {
        1
    }
}

struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Temporary {
        let path = std::env::temp_dir().join(format!("weft-finetune-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Temporary(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().to_str().unwrap().to_owned()).collect();
        // The lock stays, so that nobody locks a file that is gone.
        names.retain(|n| n != ".lock");
        names.sort();
        names
    }

    /// The losses in metrics.jsonl, as they are written.
    fn losses(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join("metrics.jsonl")).unwrap();
        let all: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        for (i, m) in all.iter().enumerate() {
            assert_eq!(m["step"].as_u64(), Some(i as u64 + 1));
        }
        all.iter().map(|m| format!("{} {} {}", m["loss"], m["lr"], m["val_loss"])).collect()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn data(n: u32, first: u32) -> Data {
    let example = |i: u32| {
        let ids: Vec<u32> = (0..3 + i % 5).map(|j| (first + 7 * i + j) % 90).collect();
        Example { labels: ids.clone(), ids }
    };
    Data { examples: (0..n).map(example).collect(), counts: Counts::default() }
}

fn settings() -> Settings {
    Settings {
        model: "small".to_owned(),
        shape: shape(),
        alpha: 4.0,
        rslora: false,
        dropout: 0.0,
        optimiser: AdamW { lr: 0.1, ..AdamW::default() },
        schedule: Schedule::Cosine,
        warmup: Warmup::Ratio(0.2),
        length: Length::Epochs(3),
        batch: 2,
        accumulate: 2,
        context: 16,
        pack: false,
        seed: 5,
        checkpointing: true.into(),
        now: 0,
    }
}

fn saving(folder: &Path) -> Saving {
    Saving { folder: folder.to_owned(), every: 3, keep: 2, eval_every: 4, base_name: "small".to_owned() }
}

fn make(folder: &Path, settings: Settings, data: Data) -> Finetune<Small> {
    let val = Some(self::data(3, 50));
    Finetune::with(Small::new(), spec(), settings, data, val, saving(folder)).unwrap()
}

fn base() -> weft_formats::adapter::Base {
    adapter_base(&spec())
}

#[test]
fn a_run_leaves_its_adapter_metrics_curve_and_last_checkpoints() {
    let folder = Temporary::new("whole");
    let mut run = make(&folder.0, settings(), data(11, 0));
    // 11 examples in batches of 2, two of them a step: 3 steps an epoch.
    assert_eq!(run.steps(), 9);
    let (mut steps, mut states, mut vals) = (0, Vec::new(), Vec::new());
    let ended = run.run(&mut |e| match e {
        Event::Step(s) => {
            steps += 1;
            assert_eq!((s.step, s.steps, s.epoch), (steps, 9, (steps - 1) / 3 + 1));
            vals.extend(s.val.map(|_| s.step));
        }
        Event::State(s) => states.push(s),
        _ => {}
    });
    assert_eq!(ended.unwrap(), State::Completed);
    assert_eq!((steps, states), (9, vec![State::Running, State::Completed]));
    assert_eq!(run.handle().state(), State::Completed);
    // Every fourth step, and the end of each epoch.
    assert_eq!(vals, [3, 4, 6, 8, 9]);
    assert_eq!(
        folder.names(),
        [
            "adapter.gguf",
            "adapter_config.json",
            "adapter_model.safetensors",
            "checkpoint-00000006",
            "checkpoint-00000009",
            "loss.svg",
            "metrics.jsonl"
        ]
    );
    let gguf = AdapterFile::open(&folder.0.join("adapter.gguf"), &base()).unwrap();
    assert_eq!(gguf, AdapterFile::open(&folder.0, &base()).unwrap());
    assert_eq!(gguf, AdapterFile::open(&folder.0.join("checkpoint-00000009"), &base()).unwrap());
    assert_eq!(gguf, to_file(&run.optimiser().adapter().unwrap(), &spec()));
    assert_eq!(from_file(&gguf).unwrap(), run.optimiser().adapter().unwrap());
    // A folder with a run is not taken for another.
    let again = make(&folder.0, settings(), data(11, 0)).run(&mut |_| {}).unwrap_err().to_string();
    assert!(again.contains("holds a run already") && again.contains("--resume"), "{again}");
}

#[test]
fn a_run_resumed_anywhere_is_the_same_run() {
    for (pack, poison) in [(false, None), (true, None), (false, Some(84))] {
        let settings = Settings { pack, ..settings() };
        let make = |folder: &Path| {
            let mut run = make(folder, settings.clone(), data(23, 0));
            run.optimiser_mut().poison = poison;
            run
        };
        let whole = Temporary::new("uncut");
        let mut run = make(&whole.0);
        run.run(&mut |_| {}).unwrap();
        // One of the examples, once an epoch.
        assert_eq!(run.skipped(), if poison.is_some() { 3 } else { 0 });
        let want = whole.losses();
        for cut in 1..want.len() as u64 {
            let folder = Temporary::new("cut");
            let mut run = make(&folder.0);
            let handle = run.handle();
            let ended = run.run(&mut |e| match e {
                Event::Step(s) if s.step == cut => handle.cancel(),
                _ => {}
            });
            assert_eq!((ended.unwrap(), run.handle().state()), (State::Cancelled, State::Cancelled));
            // As if it had been killed two steps later, in the middle of a line.
            let metrics = folder.0.join("metrics.jsonl");
            let mut text = std::fs::read_to_string(&metrics).unwrap();
            text += &format!("{{\"step\": {}, \"loss\": 1}}\n{{\"step\":", cut + 1);
            std::fs::write(&metrics, text).unwrap();
            std::fs::create_dir(folder.0.join(".checkpoint-00000099.1.part")).unwrap();
            let mut run = make(&folder.0);
            assert_eq!(run.resume(&folder.0).unwrap(), cut);
            run.run(&mut |_| {}).unwrap();
            assert_eq!(folder.losses(), want, "cut after step {cut}");
            // No leftovers, and two checkpoints, of which one may be of the cut.
            let names = folder.names();
            assert!(names.iter().all(|n| !n.ends_with(".part")), "{names:?}");
            assert_eq!((names.len(), &names[4]), (whole.names().len(), &whole.names()[4]));
            let bytes = |f: &Temporary| std::fs::read(f.0.join("adapter.gguf")).unwrap();
            assert_eq!(bytes(&folder), bytes(&whole));
        }
    }
}

#[test]
fn a_run_pauses_saves_and_goes_on() {
    let folder = Temporary::new("pause");
    let mut run = make(&folder.0, settings(), data(11, 0));
    let handle = run.handle();
    assert_eq!(handle.state(), State::Idle);
    let mut states = Vec::new();
    let other = handle.clone();
    let waiter = std::thread::spawn(move || {
        while other.state() != State::Paused {
            std::thread::yield_now();
        }
        other.resume();
    });
    run.run(&mut |e| match e {
        Event::Step(s) if s.step == 4 => handle.pause(),
        Event::State(s) => {
            if s == State::Paused {
                assert!(folder.0.join("checkpoint-00000004/run.json").is_file());
            }
            states.push(s);
        }
        _ => {}
    })
    .unwrap();
    waiter.join().unwrap();
    assert_eq!(states, [State::Running, State::Paused, State::Running, State::Completed]);
    // Cancelled while it is paused.
    let folder = Temporary::new("pause-cancel");
    let mut run = make(&folder.0, settings(), data(11, 0));
    let handle = run.handle();
    handle.pause();
    let ended = run.run(&mut |e| {
        if let Event::State(State::Paused) = e {
            handle.cancel();
        }
    });
    assert_eq!(ended.unwrap(), State::Cancelled);
    assert!(folder.0.join("checkpoint-00000000/run.json").is_file());
}

#[test]
fn another_run_s_checkpoint_is_refused_with_what_differs() {
    let folder = Temporary::new("other");
    make(&folder.0, settings(), data(11, 0)).run(&mut |_| {}).unwrap();
    let refused = |settings: Settings, data: Data| {
        let mut run = make(&folder.0, settings, data);
        let line = run.resume(&folder.0).unwrap_err().to_string();
        assert!(line.contains("checkpoint-00000009") && !line.contains('\n'), "{line}");
        line
    };
    let line = refused(Settings { seed: 6, batch: 4, ..settings() }, data(11, 0));
    assert!(line.contains("batch 2 there and 4 here, seed 5 there and 6 here;"), "{line}");
    let line = refused(settings(), data(11, 1));
    assert!(line.contains("data ") && !line.contains("rank"), "{line}");
    let line = refused(Settings { model: "large".into(), ..settings() }, data(11, 0));
    assert!(line.contains("model small there and large here"), "{line}");
    let line = refused(Settings { length: Length::Steps(9), ..settings() }, data(11, 0));
    assert!(line.contains("epochs 3 there and none here") && line.contains("steps none there"), "{line}");

    let mut run = make(&folder.0, settings(), data(11, 0));
    let mut broken = |file: &str, bytes: &[u8]| {
        let path = folder.0.join("checkpoint-00000009").join(file);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let line = run.resume(&folder.0).unwrap_err().to_string();
        std::fs::write(&path, good).unwrap();
        line
    };
    assert!(broken("run.json", b"{").contains("run.json: not JSON"));
    assert!(broken("run.json", b"{}").contains("version null"));
    assert!(broken("state.safetensors", b"12345678").contains("not a safetensors file"));
    assert!(run.resume(Path::new("/nowhere")).unwrap_err().to_string().contains("no such folder"));
    let empty = Temporary::new("no-checkpoint");
    std::fs::create_dir_all(&empty.0).unwrap();
    assert!(run.resume(&empty.0).unwrap_err().to_string().contains("holds no checkpoint"));
    assert_eq!(run.resume(&folder.0).unwrap(), 9);
    assert_eq!(run.run(&mut |_| {}).unwrap(), State::Completed);
    // Elsewhere it goes on too, but not over another run.
    let checkpoint = folder.0.join("checkpoint-00000006");
    let (fresh, taken) = (Temporary::new("fresh"), Temporary::new("taken"));
    let mut run = make(&fresh.0, settings(), data(11, 0));
    assert_eq!(run.resume(&checkpoint).unwrap(), 6);
    assert_eq!(run.run(&mut |_| {}).unwrap(), State::Completed);
    make(&taken.0, Settings { seed: 6, ..settings() }, data(11, 0)).run(&mut |_| {}).unwrap();
    let metrics = taken.losses();
    let line = make(&taken.0, settings(), data(11, 0)).resume(&checkpoint).unwrap_err().to_string();
    assert!(line.contains("holds a run already") && taken.losses() == metrics, "{line}");
}

fn long() -> Settings {
    Settings { length: Length::Epochs(6), ..settings() }
}

/// A batch whose gradient is not finite is passed by, and the others are learnt.
#[test]
fn a_step_that_is_not_finite_is_skipped_and_told() {
    let folder = Temporary::new("skipped");
    let mut run = make(&folder.0, settings(), data(11, 0));
    run.optimiser_mut().poison = Some(63);
    let mut told = Vec::new();
    let ended = run.run(&mut |e| {
        if let Event::Step(s) = e {
            told.extend(s.skipped.then_some((s.step, s.grad_norm.is_nan())));
        }
    });
    assert_eq!(ended.unwrap(), State::Completed);
    let steps: Vec<u64> = told.iter().map(|(step, _)| *step).collect();
    assert!(told.len() == 3 && told.iter().all(|(_, nan)| *nan), "{told:?}");
    assert_eq!((run.skipped(), run.optimiser().state.step), (3, 6));
    let text = std::fs::read_to_string(folder.0.join("metrics.jsonl")).unwrap();
    let all: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let marked = all.iter().filter(|m| m["skipped"] == true).map(|m| m["step"].as_u64().unwrap());
    assert_eq!(marked.collect::<Vec<_>>(), steps);
}

/// Where nothing could be learnt, there is no adapter to give.
#[test]
fn a_run_that_learns_nothing_fails() {
    let folder = Temporary::new("nothing");
    let mut run = make(&folder.0, Settings { length: Length::Steps(3), ..settings() }, data(11, 0));
    run.optimiser_mut().fail = Some((1, false));
    let line = run.run(&mut |_| {}).unwrap_err().to_string();
    assert!(line.contains("steps 1 to 3: the gradient is not finite; a weight is not finite"), "{line}");
    assert!(
        line.ends_with("there is no good checkpoint yet") && !folder.0.join("adapter.gguf").exists(),
        "{line}"
    );
}

#[test]
fn what_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    for (by_loss, what) in
        [(true, "steps 5 to 12: the loss is NaN"), (false, "steps 5 to 12: the gradient is not finite")]
    {
        let folder = Temporary::new(if by_loss { "nan" } else { "inf" });
        let mut run = make(&folder.0, long(), data(11, 0));
        run.optimiser_mut().fail = Some((5, by_loss));
        let line = run.run(&mut |_| {}).unwrap_err().to_string();
        assert!(line.contains(what) && line.contains("checkpoint-00000003"), "{line}");
        assert_eq!(run.handle().state(), State::Idle);
        let place = files::place(&folder.0.join("checkpoint-00000003")).unwrap();
        assert_eq!((place.step, place.epoch, place.batch), (3, 1, 0));
        // It goes on from there.
        let mut run = make(&folder.0, long(), data(11, 0));
        assert_eq!(run.resume(&folder.0).unwrap(), 3);
        assert_eq!(run.run(&mut |_| {}).unwrap(), State::Completed);
    }
}

/// A checkpoint whose parameters give no finite loss or gradient is not the last good one, and replaces none.
#[test]
fn a_checkpoint_that_diverges_is_not_called_good() {
    for by_loss in [true, false] {
        let folder = Temporary::new(&format!("diverged-{by_loss}"));
        let saving = Saving { keep: 1, ..saving(&folder.0) };
        let small = Small::new();
        let mut run = Finetune::with(small, spec(), long(), data(11, 0), None, saving).unwrap();
        run.optimiser_mut().fail = Some((7, by_loss));
        let line = run.run(&mut |_| {}).unwrap_err().to_string();
        assert!(line.contains("steps 7 to 14") && line.contains("good checkpoint is"), "{line}");
        assert!(line.ends_with("checkpoint-00000003"), "{line}");
        let left: Vec<_> = folder.names().into_iter().filter(|n| n.starts_with("checkpoint")).collect();
        assert_eq!(left, ["checkpoint-00000003", "checkpoint-00000006"]);
    }
}

/// Parameters that the last step before a checkpoint made infinite are not saved.
#[test]
fn what_is_not_finite_is_not_saved() {
    let folder = Temporary::new("infinite");
    let mut run = make(&folder.0, Settings { length: Length::Steps(6), ..settings() }, data(11, 0));
    let handle = run.handle();
    run.run(&mut |e| match e {
        Event::Step(s) if s.step == 5 => handle.cancel(),
        _ => {}
    })
    .unwrap();
    let mut run = make(&folder.0, Settings { length: Length::Steps(6), ..settings() }, data(11, 0));
    run.resume(&folder.0).unwrap();
    // A parameter that no loss reads.
    run.optimiser_mut().state.parameters[20] = f32::INFINITY;
    let line = run.run(&mut |_| {}).unwrap_err().to_string();
    assert!(line.contains("step 6: the adapter has values that are not finite"), "{line}");
    assert!(
        line.ends_with("checkpoint-00000005") && !folder.0.join("checkpoint-00000006").exists(),
        "{line}"
    );
}

#[test]
fn schedules() {
    let of = |schedule, warmup| {
        let s = Settings { schedule, warmup, optimiser: AdamW { lr: 1.0, ..AdamW::default() }, ..settings() };
        (0..10).map(|i| (s.lr(i, 10) * 100.0).round() as i32).collect::<Vec<_>>()
    };
    assert_eq!(of(Schedule::Constant, Warmup::Steps(0)), [100; 10]);
    assert_eq!(of(Schedule::Constant, Warmup::Steps(4))[..5], [25, 50, 75, 100, 100]);
    assert_eq!(of(Schedule::Linear, Warmup::Ratio(0.0)), [100, 90, 80, 70, 60, 50, 40, 30, 20, 10]);
    assert_eq!(of(Schedule::Linear, Warmup::Ratio(0.2)), [50, 100, 100, 88, 75, 63, 50, 38, 25, 13]);
    assert_eq!(of(Schedule::Cosine, Warmup::Steps(0)), [100, 98, 90, 79, 65, 50, 35, 21, 10, 2]);
    assert_eq!(of(Schedule::Cosine, Warmup::Steps(20))[9], 50);
}
