//! Timings, memory and device, as lines for stderr and as JSON.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_formats::recipe::RECIPES;
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::{drivers, select};
use weft_models::train::TrainPlan;
use weft_models::{Model, Opening};
use weft_runtime::{Budget, Caps, Compiled, MemoryReport, Tuning, human};

use crate::error::one_line;
use crate::output;

/// How long the parts of one answer took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Opening the file and uploading the weights.
    pub load: Duration,
    /// From the prompt to the first token.
    pub prefill: Duration,
    /// From the start of the program to the first token.
    pub first: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    /// What of that came behind the tokens that were on their way with the first.
    pub steady: Duration,
    /// Tokens of the prompt that were computed, not found in the cache.
    pub prompt_tokens: usize,
    /// Tokens drawn.
    pub generated: usize,
}

/// Tokens that the device may have computed by the time that the first is read.
pub const TOGETHER: usize = 4;

/// Tokens of an answer from which its rate says something.
const SHORTEST: usize = 2 * TOGETHER;

fn per_second(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && time.as_secs_f64() > 0.0).then(|| count as f64 / time.as_secs_f64())
}

impl Timings {
    /// Prompt tokens a second; without a token behind them nothing waited for the device.
    pub fn prefill_rate(&self) -> Option<f64> {
        per_second(self.prompt_tokens, self.prefill).filter(|_| self.generated > 0)
    }

    /// Tokens a second behind the first ones, which are computed before the first is read.
    pub fn decode_rate(&self) -> Option<f64> {
        per_second(self.generated.saturating_sub(TOGETHER), self.steady)
            .filter(|_| self.generated >= SHORTEST)
    }

    /// One line.
    pub fn line(&self) -> String {
        let rate = |r: Option<f64>| r.map_or_else(String::new, |r| format!(" ({r:.1} t/s)"));
        format!(
            "load {:.2} s | prefill {} tokens in {:.2} s{} | decode {} tokens in {:.2} s{}",
            self.load.as_secs_f64(),
            self.prompt_tokens,
            self.prefill.as_secs_f64(),
            rate(self.prefill_rate()),
            self.generated,
            self.decode.as_secs_f64(),
            rate(self.decode_rate()),
        )
    }

    /// Seconds, tokens, tokens a second.
    pub fn json(&self) -> Value {
        json!({
            "load_s": self.load.as_secs_f64(),
            "prefill_s": self.prefill.as_secs_f64(),
            "prefill_tokens": self.prompt_tokens,
            "prefill_tokens_per_s": self.prefill_rate(),
            "decode_s": self.decode.as_secs_f64(),
            "decode_tokens": self.generated,
            "decode_tokens_per_s": self.decode_rate(),
        })
    }
}

/// Since when the program runs.
pub static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How long the program had run at `then`.
pub fn since_start(then: Instant) -> Duration {
    then.saturating_duration_since(*START)
}

/// What passes until the first token.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// The parts of opening the model.
    pub opening: Opening,
    /// Pipelines.
    pub compiled: Compiled,
    /// From the start of the program to the first token.
    pub first: Duration,
}

impl Start {
    /// Bytes of weights a second.
    fn rate(&self) -> f64 {
        self.opening.bytes as f64 / self.opening.upload.as_secs_f64().max(1e-9)
    }

    /// One line.
    pub fn line(&self) -> String {
        let (o, c) = (&self.opening, &self.compiled);
        let s = |d: Duration| format!("{:.3} s", d.as_secs_f64());
        format!(
            "start: header {}, device {} (beside it: tokenizer {}), memory {}, programs {}, weights {} ({:.2} GB/s); \
             pipelines: {} compiled, {} from the cache, {:.3} s of all threads; first token after {}",
            s(o.file),
            s(o.device),
            s(o.tokenizer),
            s(o.memory),
            s(o.prepare),
            s(o.upload),
            self.rate() / 1e9,
            c.compiled,
            c.cached,
            c.seconds,
            s(self.first)
        )
    }

    /// Seconds, bytes a second, counts.
    pub fn json(&self) -> Value {
        let (o, c) = (&self.opening, &self.compiled);
        json!({
            "file_s": o.file.as_secs_f64(),
            "device_s": o.device.as_secs_f64(),
            "tokenizer_s": o.tokenizer.as_secs_f64(),
            "memory_s": o.memory.as_secs_f64(),
            "prepare_s": o.prepare.as_secs_f64(),
            "upload_s": o.upload.as_secs_f64(),
            "upload_bytes_per_s": self.rate(),
            "pipelines_compiled": c.compiled,
            "pipelines_cached": c.cached,
            "pipelines_thread_s": c.seconds,
            "first_token_s": self.first.as_secs_f64(),
        })
    }
}

/// GPU memory by pool, one line.
pub fn memory_line(report: &MemoryReport) -> String {
    let pools: Vec<String> =
        report.pools.iter().map(|(pool, p)| format!("{pool} {}", human(p.allocated))).collect();
    format!("GPU memory {}: {}", human(report.allocated()), pools.join(", "))
}

/// GPU memory by pool, in bytes.
pub fn memory_json(report: &MemoryReport) -> Value {
    let mut pools = serde_json::Map::new();
    for (pool, p) in &report.pools {
        pools.insert(pool.to_string(), json!({ "allocated": p.allocated, "used": p.used }));
    }
    json!({ "total": report.allocated(), "pools": pools })
}

/// What training takes, in bytes.
pub fn train_plan_json(plan: &TrainPlan) -> Value {
    json!({
        "weights": plan.weights,
        "staging": plan.staging,
        "adapters": plan.adapters,
        "optimiser": plan.optimiser,
        "activations": plan.activations,
        "scratch": plan.scratch,
        "total": plan.total(),
        "layers_keep": { "all": plan.kept.whole, "all_in_halves": plan.kept.halves, "input": plan.kept.inputs },
    })
}

/// What the model is, for JSON.
pub fn model_json(name: &str, model: &Model) -> Value {
    let c = model.spec();
    json!({
        "file": name,
        "name": c.name,
        "architecture": c.architecture,
        "layers": c.layers(),
        "width": c.width,
        "heads": c.heads(),
        "kv_heads": c.kv_heads(),
        "head_dim": c.head_dim(),
        "vocabulary": c.vocabulary,
        "context": c.context,
    })
}

/// The name of the mixture of types that a file says it is.
pub fn mixture(model: &Model) -> Option<&'static str> {
    let id = model.metadata().u64("general.file_type")?;
    RECIPES.iter().find(|r| u64::from(r.file_type) == id).map(|r| r.name)
}

/// Name and kind of a device, one line.
pub fn device_line(caps: &Caps) -> String {
    let memory = caps.memory.map_or_else(String::new, |m| format!(", {}", human(m)));
    format!("{} ({}, {}{memory})", caps.name, kind(caps), caps.backend)
}

/// The kind of device, in words.
pub fn kind(caps: &Caps) -> &'static str {
    use weft_runtime::DeviceKind as K;
    match caps.kind {
        K::Discrete => "discrete GPU",
        K::Integrated => "integrated GPU",
        K::Virtual => "virtual GPU",
        K::Cpu => "software on the CPU",
        K::Other => "other",
    }
}

/// Which optional features there are, in words.
pub fn features_line(caps: &Caps) -> String {
    let mut coop: Vec<String> = caps
        .coop
        .iter()
        .map(|c| format!("{}x{}x{} {}", c.m, c.n, c.k, if c.f32_accumulate { "f32" } else { "f16" }))
        .collect();
    coop.dedup();
    let yes = |b: bool| if b { "yes" } else { "no" };
    let subgroups = match caps.subgroups {
        Some((a, b)) if a == b => format!("of {a}"),
        Some((a, b)) => format!("of {a} to {b}"),
        None => "no".to_owned(),
    };
    format!(
        "f16 {}, subgroups {subgroups}, int8 dot {}, cooperative matrices {}, timestamps {}",
        yes(caps.f16),
        yes(caps.dot),
        if coop.is_empty() { "no".to_owned() } else { coop.join(" and ") },
        yes(caps.timestamps),
    )
}

/// What an op gets on a device for which shapes, first come first served; then what its driver is known to
/// fail at.
pub fn selection_lines(caps: &Caps) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut op = "";
    for rule in select::RULES.iter().filter(|r| r.lacking(caps).is_none()) {
        let part = format!("{} ({})", rule.variant, rule.shapes());
        match lines.last_mut() {
            Some(line) if op == rule.op => *line += &format!(", else {part}"),
            _ => lines.push(format!("selection: {}: {part}", rule.op)),
        }
        op = rule.op;
    }
    if !caps.variants.is_empty() {
        lines.push(format!("selection: asked for wherever they can run: {}", caps.variants.join(", ")));
    }
    lines.push(format!("tuning: {}", tuning_line(&caps.tuning)));
    lines.extend(drivers::of(caps).map(|f| format!("known to fail here: {}", f.line())));
    lines
}

/// Where constants come from that were measured on this device.
pub fn tuning_line(tuning: &Tuning) -> String {
    match &tuning.file {
        Some(file) => format!("{}, {} entries", file.display(), tuning.entries.len()),
        None => "none, defaults (see weft tune)".to_owned(),
    }
}

/// Names a software GPU, where a person looks on: it is slow, and may not be what was meant.
pub fn software_note(caps: &Caps) {
    if caps.kind == weft_runtime::DeviceKind::Cpu && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        output::note(&format!(
            "note: {} computes on the CPU, which is slow; weft devices lists the others",
            caps.name
        ));
    }
}

/// What was wrong with a tuning file, on stderr.
pub fn tuning_notes(caps: &Caps) {
    caps.tuning.notes.iter().for_each(|note| output::note(&format!("warning: {}", one_line(note))));
}

/// What a file says of its tokens that cannot be meant so, on stderr.
pub fn tokenizer_notes(tokenizer: &Tokenizer) {
    tokenizer.warnings().iter().for_each(|note| output::note(&format!("warning: {}", one_line(note))));
}

/// The limits that plans keep to, one line.
pub fn budget_line(b: &Budget) -> String {
    format!(
        "binding {}, buffer {}, workgroups {}, workgroup memory {}, invocations {}, storage buffers {}, \
         alignment {}; a submit {} dispatches or {} ms",
        human(b.max_binding),
        human(b.max_buffer),
        b.max_workgroups,
        human(b.workgroup_bytes.into()),
        b.max_invocations,
        b.storage_buffers,
        b.align,
        b.submit_dispatches,
        b.submit_ms,
    )
}

/// The limits that plans keep to, in bytes and counts.
pub fn budget_json(b: &Budget) -> Value {
    json!({
        "max_binding": b.max_binding,
        "max_buffer": b.max_buffer,
        "max_workgroups": b.max_workgroups,
        "workgroup_bytes": b.workgroup_bytes,
        "max_invocations": b.max_invocations,
        "storage_buffers": b.storage_buffers,
        "align": b.align,
        "submit_dispatches": b.submit_dispatches,
        "submit_ms": b.submit_ms,
    })
}

/// A device with its features.
pub fn caps_json(caps: &Caps) -> Value {
    json!({
        "name": caps.name,
        "kind": kind(caps),
        "backend": caps.backend,
        "driver": caps.driver,
        "vendor": caps.vendor,
        "memory": caps.memory,
        "features": {
            "f16": caps.f16,
            "subgroups": caps.subgroups.map(|(a, b)| [a, b]),
            "dot": caps.dot,
            "coop": caps.coop.iter().map(|c| json!({
                "m": c.m, "n": c.n, "k": c.k, "f32_accumulate": c.f32_accumulate,
            })).collect::<Vec<_>>(),
            "timestamps": caps.timestamps,
        },
    })
}

/// The limits of a device that decide what fits.
pub fn limits_json(caps: &Caps) -> Value {
    let l = &caps.limits;
    json!({
        "max_storage_buffer_binding_size": l.max_storage_buffer_binding_size,
        "max_buffer_size": l.max_buffer_size,
        "max_compute_workgroups_per_dimension": l.max_compute_workgroups_per_dimension,
        "max_compute_workgroup_storage_size": l.max_compute_workgroup_storage_size,
        "max_compute_invocations_per_workgroup": l.max_compute_invocations_per_workgroup,
        "max_storage_buffers_per_shader_stage": l.max_storage_buffers_per_shader_stage,
        "min_storage_buffer_offset_alignment": l.min_storage_buffer_offset_alignment,
    })
}
