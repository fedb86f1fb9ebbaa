//! The engine in a browser: a worker opens a GGUF file on WebGPU, and asks it.
//!
//! What JavaScript sees is [`Engine`], made by [`open`]. Values that are more than a number or a text go as JSON, and an
//! error is a text of one line. All that waits is `async`, since nothing in a browser may block; a worker reads a file
//! without waiting, so the file's bytes come from a function of JavaScript, piece by piece.
#![cfg(target_arch = "wasm32")]

mod ask;
mod blob;
mod tune;

use std::ops::ControlFlow;
use std::sync::Arc;

use js_sys::Function;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use weft_models::{DeviceOptions, Message, Model, Options, Rows, Session, Without};
use weft_runtime::{DeviceKind, Profile};

use ask::Ask;
use blob::Blob;

/// An error as JavaScript throws it.
type Result<T> = std::result::Result<T, JsError>;

fn said(e: impl std::fmt::Display) -> JsError {
    JsError::new(&e.to_string())
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn complain(text: &str);
}

/// A panic is a fault of ours, and its text is all that there will be of it.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|p| complain(&p.to_string())));
}

/// A model on this device, and one conversation with it.
#[wasm_bindgen]
pub struct Engine {
    /// As it was opened, without what it learnt here.
    base: Model,
    model: Model,
    session: Session,
}

/// Opens the GGUF file `name` of `size` bytes. `read(at, bytes)` gives a `Uint8Array` of so many bytes from there;
/// `progress(done, total)` is told of the weights that are there, and its `false` cancels. `options` is JSON: `context`,
/// `without` (features that are not to be used, as `--without` takes them) and `limits` (a profile).
///
/// # Errors
/// No WebGPU; anything wrong with the file or the device.
#[wasm_bindgen]
pub async fn open(
    name: String,
    size: f64,
    read: Function,
    options: String,
    progress: Function,
) -> Result<Engine> {
    let asked: Value = serde_json::from_str(&options).map_err(said)?;
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let profile = match text("limits") {
        "" => None,
        name => Some(Profile::parse(name).ok_or_else(|| said(format!("there is no profile \"{name}\"")))?),
    };
    let without = Without::parse(text("without")).map_err(said)?;
    let context = asked["context"].as_u64().map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let options = Options {
        device: DeviceOptions { profile, without, ..DeviceOptions::default() },
        context,
        ..Options::default()
    };
    let blob: Arc<Blob> = Arc::new(Blob::new(size as u64, read));
    let loading =
        Model::begin_async(weft_models::Source::Pieces(name, blob), &options).await.map_err(said)?;
    let mut tell = |p: weft_models::Progress| {
        let (done, total) = (JsValue::from(p.done as f64), JsValue::from(p.total as f64));
        go_on(progress.call2(&JsValue::NULL, &done, &total))
    };
    let model = loading.finish_async(&mut tell).await.map_err(said)?;
    let session = model.session(context.unwrap_or(model.default_context())).map_err(said)?;
    Ok(Engine { base: model.clone(), model, session })
}

/// What a function of JavaScript says that is told of what happens: `false`, or an exception, ends it.
fn go_on(said: std::result::Result<JsValue, JsValue>) -> ControlFlow<()> {
    match said {
        Ok(v) if v != JsValue::FALSE => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}

#[wasm_bindgen]
impl Engine {
    /// What was opened on what, as JSON.
    pub fn about(&self) -> String {
        let (spec, caps) = (self.model.spec(), self.model.gpu().caps());
        let limits = &caps.limits;
        json!({
            "name": spec.name,
            "architecture": spec.architecture,
            "parameters": self.model.parameters(),
            "bytes": self.model.bytes(),
            "vocabulary": spec.vocabulary,
            "trained": spec.context,
            "context": self.session.context(),
            "template": self.model.template().is_ok(),
            "memory": self.model.gpu().memory().allocated(),
            "device": {
                "name": caps.name,
                "backend": caps.backend,
                "software": caps.kind == DeviceKind::Cpu,
                "f16": caps.f16,
                "subgroups": caps.subgroups.is_some(),
                "limits": {
                    "binding": limits.max_storage_buffer_binding_size,
                    "buffer": limits.max_buffer_size,
                    "workgroup_memory": limits.max_compute_workgroup_storage_size,
                    "invocations": limits.max_compute_invocations_per_workgroup,
                    "storage_buffers": limits.max_storage_buffers_per_shader_stage,
                },
            },
        })
        .to_string()
    }

    /// Answers `request`, JSON of the fields of a chat completion that a session knows: `each(text)` gets the answer as
    /// it comes, `prompt(done, total)` is told of the prompt; `false` from either ends the answer. Gives JSON: `prompt`
    /// and `reused` tokens, tokens `generated`, and `stop`, why it ended.
    ///
    /// # Errors
    /// A field that is not known here, a prompt that is too long, a fault of the device.
    pub async fn answer(&mut self, request: String, prompt: Function, each: Function) -> Result<String> {
        let ask = Ask::read(&request).map_err(said)?;
        let ids = self.ids(&ask)?;
        let mut tell = |done: usize, total: usize| {
            go_on(prompt.call2(&JsValue::NULL, &JsValue::from(done as f64), &JsValue::from(total as f64)))
        };
        let most = ask.max_tokens.unwrap_or(usize::MAX);
        let started = self.session.generate_with_async(&ids, &ask.sampling, most, &mut tell).await;
        let mut answer = match started {
            Err(weft_models::Error::Cancelled) => return Ok(ended(ids.len(), 0, 0, "cancelled")),
            other => other.map_err(said)?,
        };
        let mut cancelled = false;
        while let Some(text) = answer.next_text_async().await.map_err(said)? {
            if go_on(each.call1(&JsValue::NULL, &JsValue::from(text))).is_break() {
                cancelled = true;
                break;
            }
        }
        let stop = match answer.stop() {
            _ if cancelled => "cancelled",
            Some(weft_models::Stop::EndOfText) => "stop",
            Some(weft_models::Stop::Context) => "context",
            _ => "length",
        };
        Ok(ended(answer.prompt_tokens(), answer.reused_tokens(), answer.generated(), stop))
    }

    /// The logits of every position of `prompt` (as [`Engine::answer`] takes a request), row after row.
    ///
    /// # Errors
    /// As [`Engine::answer`].
    pub async fn logits(&mut self, request: String) -> Result<Vec<f32>> {
        let ids = self.ids(&Ask::read(&request).map_err(said)?)?;
        let mut all = Vec::new();
        let mut each = |_: u32, row: &[f32]| {
            all.extend_from_slice(row);
            ControlFlow::Continue(())
        };
        self.session.logits_async(&ids, Rows::Prefill, &mut each).await.map_err(said)?;
        Ok(all)
    }

    /// The token ids of a request, for tests.
    ///
    /// # Errors
    /// As [`Engine::answer`].
    pub fn tokens(&self, request: String) -> Result<Vec<u32>> {
        self.ids(&Ask::read(&request).map_err(said)?)
    }

    fn ids(&self, ask: &Ask) -> Result<Vec<u32>> {
        match &ask.prompt {
            Some(text) => Ok(self.model.tokenizer().map_err(said)?.encode(text, true)),
            None => {
                let messages: &[Message] = &ask.messages;
                self.model.chat(messages, ask.thinking).map_err(said)
            }
        }
    }
}

fn ended(prompt: usize, reused: usize, generated: usize, stop: &str) -> String {
    json!({ "prompt": prompt, "reused": reused, "generated": generated, "stop": stop }).to_string()
}
