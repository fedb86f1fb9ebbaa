//! Fine-tuning in the page: an adapter of low rank on examples that somebody pasted.

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use weft_formats::chat::Template;
use weft_formats::tokenizer::Tokenizer;
use weft_models::finetune::{Counts, Data, Example, Skips, spans, to_file};
use weft_models::train::{AdamW, Adapter, IGNORE, Target, TrainOptions, Trainer};
use weft_models::{ChatOptions, Error, Message};
use weft_runtime::Wait;

use crate::{Engine, Result, go_on, said};

/// Most tokens of an example.
const LONGEST: usize = 512;

/// A conversation, `{"messages": [...]}`, with what the assistant says in it to be learnt.
fn example(line: &str, tokenizer: &Tokenizer, template: &Template) -> std::result::Result<Example, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("is not JSON ({e})"))?;
    let messages = value.get("messages").ok_or("has no \"messages\"")?;
    let messages: Vec<Message> = serde_json::from_value(messages.clone()).map_err(|e| e.to_string())?;
    let options = ChatOptions { now: Some(0), ..ChatOptions::default() };
    let rendered = spans::render(template, &messages, &options).map_err(|e| e.to_string())?;
    let cuts: Vec<usize> = rendered.spans.iter().flat_map(|s| [s.bytes.start, s.bytes.end]).collect();
    // Between the cuts, what is learnt follows what is not.
    let pieces = tokenizer.encode_cut(&rendered.text, &cuts);
    let tokens = pieces.iter().enumerate().flat_map(|(i, ids)| ids.iter().map(move |&id| (id, i % 2 == 1)));
    let tokens: Vec<(u32, bool)> = tokens.collect();
    if tokens.len() > LONGEST {
        return Err(format!("has {} tokens, more than the {LONGEST} that are learnt here", tokens.len()));
    }
    let labels: Vec<u32> =
        tokens.iter().skip(1).map(|&(id, learnt)| if learnt { id } else { IGNORE }).collect();
    match labels.iter().all(|&l| l == IGNORE) {
        true => Err("has no assistant message".into()),
        false => Ok(Example { ids: tokens[..labels.len()].iter().map(|t| t.0).collect(), labels }),
    }
}

#[wasm_bindgen]
impl Engine {
    /// Learns `examples`, conversations as lines of JSON. `settings` is JSON: `steps`, `batch` (examples of a
    /// step), `rank`, `lr`, `seed`. `each(step, steps, loss)` is told of each step, and its `false` ends it early; the
    /// loss is NaN of a step that was skipped, because a loss or a gradient was not finite. The model then answers with
    /// what it learnt, in an empty cache; another call begins again from what it was. Gives JSON: `examples`, learnt
    /// `tokens`, `parameters`, the `first` and the `last` loss (null where nothing was learnt), `steps`, how many of them
    /// were `skipped`.
    ///
    /// # Errors
    /// What is wrong with the examples, by line; a model that cannot be trained; memory; a fault of the device; steps that
    /// are skipped, as [`Skips::count`] has it.
    pub async fn tune(&mut self, examples: String, settings: String, each: Function) -> Result<String> {
        let asked: Value = serde_json::from_str(&settings).map_err(said)?;
        let number = |key: &str, otherwise: u64| asked[key].as_u64().unwrap_or(otherwise);
        let (steps, seed) = (number("steps", 60).max(1), number("seed", 42));
        let (batch, rank) = (number("batch", 4).clamp(1, 64) as u32, number("rank", 16).clamp(1, 256) as u32);
        let lr = asked["lr"].as_f64().unwrap_or(2e-3) as f32;
        let (tokenizer, template) =
            (self.base.tokenizer().map_err(said)?, self.base.template().map_err(said)?);
        let mut data = Data { examples: Vec::new(), counts: Counts::default() };
        for (i, line) in examples.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let read = example(line, tokenizer, template);
            data.examples.push(read.map_err(|what| said(format!("line {}: {what}", i + 1)))?);
        }
        if data.examples.is_empty() {
            return Err(said("there are no examples"));
        }
        let adapter = Adapter::new(self.base.spec(), &Target::ALL, rank, 2.0 * rank as f32, false, seed);
        let options = TrainOptions { tokens: data.most_tokens(batch, None), ..TrainOptions::default() };
        let mut trainer = Trainer::new(&self.base, &adapter, &options).map_err(said)?;
        let optimiser = AdamW { lr, ..AdamW::default() };
        let (mut losses, mut tokens) = (Vec::new(), 0);
        let (mut step, mut skips) = (0, Skips::default());
        'steps: for epoch in 0.. {
            for indices in data.epoch(seed, epoch, batch, None) {
                let batch = data.batch(&indices);
                let supervised = batch.labels.iter().filter(|l| **l != IGNORE).count();
                let part = trainer
                    .accumulate_by(&batch, 1.0 / supervised.max(1) as f32, Wait::Await)
                    .await
                    .map_err(said)?;
                let loss = part.loss_sum / part.supervised.max(1) as f64;
                let learnt = match trainer.step_by(&optimiser, Wait::Await).await {
                    Err(Error::NotFinite { .. }) => false,
                    other => other.map(|_| loss.is_finite()).map_err(said)?,
                };
                step += 1;
                if learnt {
                    tokens += supervised;
                    losses.push(loss);
                }
                let shown = if learnt { loss } else { f64::NAN };
                let told = [step as f64, steps as f64, shown].map(JsValue::from);
                let flow = go_on(each.call3(&JsValue::NULL, &told[0], &told[1], &told[2]));
                if !skips.count(learnt, step, steps) {
                    let what = format!(
                        "nothing could be learnt in step {step} nor in the {} before it: their losses or gradients are not finite",
                        skips.row() - 1
                    );
                    return Err(said(what));
                }
                if flow.is_break() || step == steps {
                    break 'steps;
                }
            }
        }
        let learnt = trainer.adapter_by(Wait::Await).await.map_err(said)?;
        let parameters = trainer.parameters();
        drop(trainer);
        let file = to_file(&learnt, self.base.spec());
        let model = self.base.with_adapters(&[(&file, 1.0)]).map_err(said)?;
        self.session = model.session(self.session.context()).map_err(said)?;
        self.model = model;
        Ok(json!({
            "examples": data.examples.len(),
            "tokens": tokens,
            "parameters": parameters,
            "first": losses.first(),
            "last": losses.last(),
            "steps": step,
            "skipped": skips.all(),
        })
        .to_string())
    }
}
