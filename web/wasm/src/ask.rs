//! A request as JSON, in the words of a chat completion.

use serde_json::Value;
use weft_models::{Message, Sampling};

/// What is asked.
pub(crate) struct Ask {
    /// The conversation.
    pub(crate) messages: Vec<Message>,
    /// Text that goes to the model as it is, in place of a conversation.
    pub(crate) prompt: Option<String>,
    /// Whether the model is to think, where its template asks.
    pub(crate) thinking: Option<bool>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: Sampling,
}

impl Ask {
    /// # Errors
    /// What is no JSON, and a field that is not known here or of another type: nothing is left out in silence.
    pub(crate) fn read(text: &str) -> Result<Ask, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let fields = value.as_object().ok_or("the request is no JSON object")?;
        let mut ask = Ask {
            messages: Vec::new(),
            prompt: None,
            thinking: None,
            max_tokens: None,
            sampling: Sampling::default(),
        };
        let s = &mut ask.sampling;
        for (key, v) in fields {
            let bad = || format!("{key} cannot be {v}");
            let float = || v.as_f64().map(|x| x as f32).ok_or_else(bad);
            let whole = || v.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(bad);
            match key.as_str() {
                "messages" => ask.messages = serde_json::from_value(v.clone()).map_err(|e| e.to_string())?,
                "prompt" => ask.prompt = Some(v.as_str().ok_or_else(bad)?.to_owned()),
                "thinking" if v.is_null() => {}
                "thinking" => ask.thinking = Some(v.as_bool().ok_or_else(bad)?),
                "max_tokens" => ask.max_tokens = Some(whole()? as usize),
                "temperature" => s.temperature = float()?,
                "top_k" => s.top_k = whole()?,
                "top_p" => s.top_p = float()?,
                "min_p" => s.min_p = float()?,
                "repeat_penalty" => s.repeat_penalty = float()?,
                "repeat_last_n" => s.repeat_last_n = whole()?,
                "seed" => s.seed = whole()?,
                _ => return Err(format!("\"{key}\" is not known to the engine in the browser")),
            }
        }
        if ask.prompt.is_none() && ask.messages.is_empty() {
            return Err("there are neither messages nor a prompt".into());
        }
        Ok(ask)
    }
}
