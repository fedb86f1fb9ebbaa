//! A line of `weft batch`: what is asked, and how it differs from the command line.

use serde_json::{Map, Value};
use weft_formats::{chat, json};
use weft_models::engine::Request;
use weft_models::{Message, Model, Sampling};

/// What the command line says.
pub(super) struct Defaults {
    pub(super) sampling: Sampling,
    pub(super) max_tokens: usize,
    pub(super) raw: bool,
    pub(super) thinking: Option<bool>,
}

/// The name that a line gives itself, if it is one that can be read.
pub(super) fn name(line: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object_mut()?;
    object.remove("id").or_else(|| object.remove("custom_id"))
}

/// The name that a line gives itself, and its request, or what is wrong with it.
pub(super) fn read(line: &[u8], model: &Model, d: &Defaults) -> (Option<Value>, Result<Request, String>) {
    let value = match json::strict(line) {
        Ok(v) => v,
        Err(e) if e.is_data() => return (None, Err(e.to_string())),
        Err(e) => return (None, Err(format!("the line is no JSON: {e}"))),
    };
    let mut object = match value {
        Value::String(text) => {
            return (None, request(Map::from_iter([("prompt".into(), text.into())]), model, d));
        }
        Value::Object(object) => object,
        _ => return (None, Err("a line is a text, or an object with \"prompt\" or \"messages\"".into())),
    };
    let name = object.remove("id").or_else(|| object.remove("custom_id"));
    // OpenAI's batches wrap the request.
    let object = match object.remove("body") {
        Some(Value::Object(body)) => {
            let rest = object.keys().find(|k| !["method", "url"].contains(&k.as_str()));
            if let Some(key) = rest {
                return (name, Err(format!("\"{key}\" beside \"body\" is not known (method and url are)")));
            }
            let mut body = body;
            body.remove("model");
            body
        }
        Some(_) => return (name, Err("\"body\" is no object".into())),
        None => object,
    };
    (name, request(object, model, d))
}

fn request(mut o: Map<String, Value>, model: &Model, d: &Defaults) -> Result<Request, String> {
    let prompt = match (o.remove("prompt"), o.remove("messages")) {
        (Some(Value::String(text)), None) if d.raw => {
            model.tokenizer().map_err(|e| e.to_string())?.encode_prompt(&text)
        }
        (Some(Value::String(text)), None) => ask(&[Message::user(text)], model, d)?,
        (None, Some(messages)) => {
            let template = model.template().map_err(|e| e.to_string())?;
            let messages = chat::messages(messages, template).map_err(|e| format!("\"messages\": {e}"))?;
            ask(&messages, model, d)?
        }
        (Some(_), Some(_)) => return Err("a line has \"prompt\" or \"messages\", not both".into()),
        (Some(_), None) => return Err("\"prompt\" is no text".into()),
        (None, None) => return Err("the line has neither \"prompt\" nor \"messages\"".into()),
    };
    let mut s = d.sampling;
    let mut number = |key: &str, to: &mut f32| -> Result<(), String> {
        match o.remove(key) {
            None | Some(Value::Null) => Ok(()),
            Some(v) => {
                *to = v.as_f64().ok_or_else(|| format!("\"{key}\" is no number"))? as f32;
                Ok(())
            }
        }
    };
    number("temperature", &mut s.temperature)?;
    number("top_p", &mut s.top_p)?;
    number("min_p", &mut s.min_p)?;
    number("typical_p", &mut s.typical_p)?;
    number("repeat_penalty", &mut s.repeat_penalty)?;
    number("presence_penalty", &mut s.presence_penalty)?;
    number("frequency_penalty", &mut s.frequency_penalty)?;
    let mut whole = |key: &str| match o.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => v.as_u64().map(Some).ok_or_else(|| format!("\"{key}\" is no whole number from 0 on")),
    };
    if let Some(k) = whole("top_k")? {
        s.top_k = u32::try_from(k).map_err(|_| "\"top_k\" is too large".to_owned())?;
    }
    if let Some(seed) = whole("seed")? {
        // Seeds have 32 bits here; the rest is folded in.
        s.seed = (seed ^ (seed >> 32)) as u32;
    }
    let names = ["max_tokens", "max_completion_tokens", "n_predict"];
    let mut most: Option<(&str, u64)> = None;
    for name in names {
        let Some(n) = whole(name)? else { continue };
        match most {
            Some((other, m)) if m != n => {
                return Err(format!("\"{other}\" and \"{name}\" say different things"));
            }
            _ => most = Some((name, n)),
        }
    }
    let max_tokens = most.map_or(d.max_tokens, |(_, n)| n as usize);
    let stop = match o.remove("stop") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(list) => {
            serde_json::from_value(list).map_err(|_| "\"stop\" is no text and no list of texts".to_owned())?
        }
    };
    if let Some(key) = o.keys().next() {
        return Err(format!(
            "\"{key}\" is not known; a line can have id, prompt or messages, max_tokens, temperature, top_k, top_p, \
             min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty, seed, stop"
        ));
    }
    Ok(Request { stop, ..Request::new(prompt, s, max_tokens) })
}

fn ask(messages: &[Message], model: &Model, d: &Defaults) -> Result<Vec<u32>, String> {
    model.chat(messages, d.thinking).map_err(|e| e.to_string())
}
