//! Speed and memory of fine-tuning on synthetic batches:
//! `cargo bench --bench training -- -m MODEL.gguf --batch 8 --ctx 512`, of a real shape with made-up weights
//! (`--synthetic qwen3-1.7b:q4_k_m`), or of the model on board.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use weft_harness::mini;
use weft_models::train::{
    AdamW, Adapter, AdapterShape, Batch, Checkpointing, Target, TrainOptions, TrainPlan, Trainer,
};
use weft_models::{DeviceOptions, Model, Options, Profile, Result, Source, Synthetic, Without};
use weft_runtime::human;

/// Measures steps of fine-tuning, every token supervised.
#[derive(Parser)]
struct Args {
    /// The model; the one on board if none is given.
    #[arg(short)]
    model: Option<PathBuf>,
    /// In its place, a real shape with made-up weights: SHAPE:TYPE, as `weft bench --synthetic` has them.
    #[arg(long, conflicts_with = "model", value_parser = |text: &str| Synthetic::parse(text, None))]
    synthetic: Option<Synthetic>,
    /// Sequences of a batch.
    #[arg(long, default_value_t = 4)]
    batch: u32,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = 64)]
    ctx: u32,
    #[arg(long, default_value_t = 8)]
    rank: u32,
    #[arg(long)]
    no_checkpointing: bool,
    /// Bytes that training may take, in which as many layers as fit keep their activations.
    #[arg(long, conflicts_with = "no_checkpointing")]
    memory: Option<u64>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 5)]
    steps: u32,
    /// adreno, mali, webgpu or minimal.
    #[arg(long)]
    limits: Option<String>,
    /// Keep one layer's weights at a time.
    #[arg(long)]
    stream_weights: bool,
    /// Leave out what the device has besides core WebGPU.
    #[arg(long)]
    baseline: bool,
    /// Kernel variants to take wherever they can run, such as coop.
    #[arg(long, value_delimiter = ',')]
    variant: Vec<String>,
    /// Count the dispatches of each kind.
    #[arg(long)]
    explain: bool,
    /// Time each kernel on the device.
    #[arg(long)]
    profile: bool,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> std::process::ExitCode {
    match run(&Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let source = match (&args.synthetic, &args.model) {
        (Some(made), _) => made.clone().into(),
        (_, Some(file)) => Source::File(file.clone()),
        _ => Source::Bytes(mini::GGUF.to_vec()),
    };
    let device = DeviceOptions {
        profile: args.limits.as_deref().and_then(Profile::parse),
        variants: args.variant.clone(),
        without: if args.baseline { Without::ALL } else { Without::default() },
        ..DeviceOptions::default()
    };
    let stream_weights = args.stream_weights;
    let model = Model::open(source, &Options { device, stream_weights, ..Options::default() })?;
    let spec = model.spec();
    let tokens = args.batch * args.ctx;
    let checkpointing = args.memory.map_or((!args.no_checkpointing).into(), Checkpointing::Within);
    let options = TrainOptions { tokens, checkpointing, ..TrainOptions::default() };
    let adapter = Adapter::new(spec, &Target::ALL, args.rank, 2.0 * args.rank as f32, false, 1);
    let mut trainer = Trainer::new(&model, &adapter, &options)?;
    println!("{} on {}", spec.name.as_deref().unwrap_or("model"), model.gpu().caps().name);
    println!(
        "rank {}, {} x {}, {}",
        args.rank,
        args.batch,
        args.ctx,
        match checkpointing {
            Checkpointing::Never => "no checkpointing".to_owned(),
            Checkpointing::Every => "checkpointing".to_owned(),
            Checkpointing::Within(bytes) => format!("at most {}", human(bytes)),
        }
    );
    println!("{}", trainer.plan());
    if let Some(memory) = model.gpu().caps().memory {
        let shape = AdapterShape::uniform(spec, &Target::ALL, args.rank);
        let (weights, budget) = (trainer.plan().weights + trainer.plan().staging, model.gpu().budget());
        let fitting = TrainPlan::largest_fitting(spec, weights, &shape, &options, budget, args.ctx, memory);
        println!("of {}: the largest (batch, context) is {fitting:?}", human(memory));
    }
    let mut state = 7u64;
    let ids: Vec<u32> = (0..tokens)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % spec.vocabulary
        })
        .collect();
    let labels = ids[1..].iter().chain(&ids[..1]).copied().collect();
    let batch = Batch { ids, labels, sequences: vec![args.ctx; args.batch as usize] };
    let adamw = AdamW::default();
    let step = |trainer: &mut Trainer| -> Result<(f64, f32)> {
        let losses = trainer.accumulate(&batch, 1.0 / tokens as f32)?;
        let norm = trainer.step(&adamw)?;
        Ok((losses.loss_sum / losses.supervised as f64, norm))
    };
    let began = Instant::now();
    let (loss, norm) = step(&mut trainer)?;
    println!("first step {:.2} s, loss {loss:.4}, norm {norm:.4}", began.elapsed().as_secs_f64());
    step(&mut trainer)?;
    let mut times = Vec::new();
    let mut last = (0.0, 0.0);
    for _ in 0..args.steps {
        let began = Instant::now();
        last = step(&mut trainer)?;
        times.push(began.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let evaluation = Instant::now();
    trainer.evaluate(&batch)?;
    println!(
        "step {:.1} ms (from {:.1} to {:.1}), of which forward and loss {:.1} ms: {:.0} tokens/s; loss {:.4}, norm {:.4}",
        median * 1e3,
        times[0] * 1e3,
        times[times.len() - 1] * 1e3,
        evaluation.elapsed().as_secs_f64() * 1e3,
        f64::from(tokens) / median,
        last.0,
        last.1
    );
    let report = trainer.memory();
    for (pool, p) in &report.pools {
        println!("{pool:<18}{:>12} of {:>12}", human(p.used), human(p.allocated));
    }
    println!("allocated in all  {}", human(report.allocated()));
    if args.profile {
        for (program, replay) in trainer.measure()? {
            let mut kernels: BTreeMap<(&str, [u32; 3]), (u32, f64)> = BTreeMap::new();
            for span in &replay.spans {
                let k = kernels.entry((&span.name, span.grid)).or_default();
                *k = (k.0 + 1, k.1 + span.seconds);
            }
            let mut kernels: Vec<_> = kernels.into_iter().collect();
            kernels.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
            println!("{program}: {:.3} ms", replay.spans.iter().map(|s| s.seconds).sum::<f64>() * 1e3);
            for ((name, grid), (n, seconds)) in kernels {
                let each = seconds / f64::from(n) * 1e6;
                println!("  {:9.3} ms {n:5} x {each:8.1} us  {name} {grid:?}", seconds * 1e3);
            }
        }
    }
    if args.explain {
        trainer.explain().iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}
