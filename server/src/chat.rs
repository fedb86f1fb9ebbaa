//! What a chat is asked, in OpenAI's shape: messages, tools, how it is drawn and in which form it comes.

use serde_json::{Map, Value};
use weft_formats::chat::Message;

use crate::app::App;
use crate::card::{Card, Rendering};
use crate::draw::{self, Draw};
use crate::error::{ApiError, Result};
use crate::fields::Fields;

/// Tools of a request at most.
pub(crate) const MOST_TOOLS: usize = 128;

/// Fields that are documented and change nothing here.
const IGNORED: &[&str] = &[
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "verbosity",
    "cache_prompt",
];

/// Fields that are documented and not served.
const REFUSED: &[(&str, &str)] = &[
    ("audio", "this server gives text alone"),
    ("prediction", "there are no predicted outputs here"),
    ("web_search_options", "this server searches nothing"),
    ("moderation", "this server moderates nothing"),
    ("functions", "it was replaced by tools"),
    ("function_call", "it was replaced by tool_choice"),
    ("lora", "adapters are chosen by the name of the model"),
    ("chat_template", "the template is the model's; the server's --chat-template gives another"),
];

/// A chat that is asked for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) messages: Vec<Message>,
    pub(crate) with: Rendering,
    pub(crate) draw: Draw,
    pub(crate) stream: bool,
    /// Whether usage comes at the end of the stream.
    pub(crate) usage: bool,
    /// Whether the stream tells how far the prompt is.
    pub(crate) progress: bool,
}

impl Ask {
    /// Reads the body of a request, without its `model`.
    ///
    /// # Errors
    /// A field that makes no sense, is not served or is not known.
    pub(crate) fn read(mut f: Fields, app: &App, card: &Card) -> Result<Ask> {
        let mut ignored = Vec::new();
        let mut lenient = app.config.lenient.then_some(&mut ignored);
        f.ignore(IGNORED);
        f.refuse(REFUSED)?;
        modalities(&mut f)?;
        let messages = messages(&mut f, &mut lenient)?;
        let mut draw = Draw::read(&mut f, card, app.id())?;
        draw.max_tokens = draw::max_tokens(&mut f, &["max_completion_tokens", "max_tokens"])?;
        draw.logprobs = logprobs(&mut f)?;
        let (thinking, extra) = thinking(&mut f, card)?;
        let goes_on = goes_on(&mut f)?;
        let (stream, usage) = draw::streaming(&mut f)?;
        let progress = f.flag("return_progress")?.unwrap_or(false);
        f.finish(lenient)?;
        app.log_ignored(&ignored);
        let with = Rendering { tools: None, thinking, extra, goes_on };
        Ok(Ask { messages, with, draw, stream, usage, progress })
    }
}

fn messages(f: &mut Fields, lenient: &mut Option<&mut Vec<String>>) -> Result<Vec<Message>> {
    crate::messages::read(f, lenient)
}

fn modalities(f: &mut Fields) -> Result<()> {
    let Some(all) = f.list("modalities", 8)? else { return Ok(()) };
    match all.iter().all(|m| m == "text") {
        true => Ok(()),
        false => Err(ApiError::unsupported("modalities", "this server gives text alone")),
    }
}

fn logprobs(f: &mut Fields) -> Result<Option<usize>> {
    let wanted = f.flag("logprobs")?.unwrap_or(false);
    match (wanted, f.whole("top_logprobs", 0, 20)?) {
        (true, top) => Ok(Some(top.unwrap_or(0) as usize)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::value("top_logprobs", "\"top_logprobs\" needs \"logprobs\": true")),
    }
}

/// Whether the model thinks first, and the other variables of its template.
pub(crate) fn thinking(f: &mut Fields, card: &Card) -> Result<(Option<bool>, Map<String, Value>)> {
    const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let template = card.template.as_ref().ok();
    let mut extra = match f.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(crate::fields::wrong("chat_template_kwargs", "an object", &other)),
    };
    if let Some(name) = extra.keys().find(|name| !template.is_some_and(|t| t.mentions(name))) {
        let shown: String = name.chars().take(40).collect();
        let line = format!("the template of \"{}\" reads no \"{shown}\"", card.id);
        return Err(ApiError::unsupported("chat_template_kwargs", line));
    }
    let mut thinking = match extra.remove("enable_thinking") {
        None => None,
        Some(Value::Bool(on)) => Some(on),
        Some(other) => {
            return Err(crate::fields::wrong(
                "chat_template_kwargs.enable_thinking",
                "true or false",
                &other,
            ));
        }
    };
    match f.choice("reasoning_effort", EFFORTS)? {
        None => {}
        // A model that cannot think does not.
        Some("none") => thinking = template.is_some_and(|t| t.has_thinking_switch()).then_some(false),
        Some(effort) if template.is_some_and(|t| t.mentions("reasoning_effort")) => {
            extra.insert("reasoning_effort".into(), effort.into());
        }
        Some(_) if template.is_some_and(|t| t.has_thinking_switch()) => thinking = Some(true),
        Some(_) => {
            let line = format!("the template of \"{}\" has no switch for reasoning", card.id);
            return Err(ApiError::unsupported("reasoning_effort", line));
        }
    }
    Ok((thinking, extra))
}

/// Whether the last message is the beginning of the answer.
pub(crate) fn goes_on(f: &mut Fields) -> Result<bool> {
    let goes_on = f.flag("continue_final_message")?.unwrap_or(false);
    match (f.flag("add_generation_prompt")?, goes_on) {
        (Some(true), true) => {
            let line = "\"add_generation_prompt\" and \"continue_final_message\" cannot both be true";
            Err(ApiError::value("continue_final_message", line))
        }
        (Some(false), false) => {
            let line = "without an opened turn nothing is answered; set \"continue_final_message\" to go on with the last";
            Err(ApiError::unsupported("add_generation_prompt", line))
        }
        _ => Ok(goes_on),
    }
}
