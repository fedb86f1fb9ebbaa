//! What a chat is asked, in OpenAI's shape: messages, tools, how it is drawn and in which form it comes; and how that
//! becomes requests to the engine.

use std::borrow::Cow;

use serde_json::{Map, Value};
use weft_formats::chat::{Message, Template};
use weft_models::engine::{Mask, Request};

use crate::app::{App, Served};
use crate::card::{Card, Rendering};
use crate::draw::{self, Draw};
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::grammar::{Entry, Refusal, Think};
use crate::shape::{self, Form};
use crate::tools::{Calls, Format, format_of, needs_special, plan, think_of};

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
    ("chat_template", "the template is the model's; the server's --chat-template gives another"),
];

/// A chat that is asked for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) messages: Vec<Message>,
    pub(crate) with: Rendering,
    pub(crate) draw: Draw,
    /// The tools, and whether they are called.
    pub(crate) calls: Calls,
    /// What the answer must look like.
    pub(crate) form: Option<Form>,
    /// Tokens that the model may think at most, where it thinks aloud.
    pub(crate) budget: Option<usize>,
    /// Whether thoughts are a part of the content.
    pub(crate) raw_thoughts: bool,
    pub(crate) stream: bool,
    /// Whether usage comes at the end of the stream.
    pub(crate) usage: bool,
    /// Whether the stream tells how far the prompt is.
    pub(crate) progress: bool,
}

impl Ask {
    /// One with no more than every API has.
    pub(crate) fn new(
        (messages, with): (Vec<Message>, Rendering),
        draw: Draw,
        calls: Calls,
        form: Option<Form>,
        stream: bool,
    ) -> Ask {
        Ask {
            messages,
            with,
            draw,
            calls,
            form,
            stream,
            budget: None,
            raw_thoughts: false,
            usage: false,
            progress: false,
        }
    }

    /// Reads the body of a request, without its `model`.
    ///
    /// # Errors
    /// A field that makes no sense, is not served or is not known.
    pub(crate) fn read(mut f: Fields, app: &App, card: &Card) -> Result<Ask> {
        let mut ignored = Vec::new();
        let mut lenient = app.config.lenient.then_some(&mut ignored);
        f.ignore(IGNORED)?;
        f.refuse(REFUSED)?;
        modalities(&mut f)?;
        let messages = crate::messages::read(&mut f, &mut lenient)?;
        card.check_names(&messages, &mut lenient)?;
        let calls = shape::calls(&mut f)?;
        let form = shape::form(&mut f)?;
        let mut draw = Draw::read(&mut f, card, app.id())?;
        draw.max_tokens = draw::max_tokens(&mut f, &["max_completion_tokens", "max_tokens"])?;
        draw.logprobs = logprobs(&mut f)?;
        let (thinking, extra) = thinking(&mut f, card)?;
        let raw = f.choice("reasoning_format", &["auto", "deepseek", "none"])? == Some("none");
        let budget = f.whole("thinking_budget", 0, 1 << 31)?.map(|n| n as usize);
        let goes_on = goes_on(&mut f)?;
        let (stream, usage) = draw::streaming(&mut f)?;
        let progress = f.flag("return_progress")?.unwrap_or(false);
        f.finish(lenient)?;
        app.log_ignored(&ignored);
        let with = Rendering { tools: None, thinking, extra, goes_on };
        Ok(Ask { messages, with, draw, calls, form, budget, raw_thoughts: raw, stream, usage, progress })
    }
}

/// A chat that is ready to be drawn.
pub(crate) struct Prepared {
    /// One for each answer.
    pub(crate) requests: Vec<Request>,
    /// What reads each answer.
    pub(crate) reading: Reading,
}

/// How the text of an answer is told apart.
#[derive(Clone)]
pub(crate) struct Reading {
    /// How calls are written, where there may be some.
    pub(crate) format: Option<&'static Format>,
    /// The tools that may be called.
    pub(crate) names: Vec<String>,
    /// How the model thinks, where thoughts are told apart.
    pub(crate) think: Option<Think>,
}

/// What a client is told of a grammar that cannot be enforced.
pub(crate) fn refusal(why: Refusal, param: &str) -> ApiError {
    match why.busy {
        true => ApiError::unavailable("overloaded", why.message, 1),
        false => ApiError::bad("invalid_schema", why.message).at(param),
    }
}

/// Bytes of a chat that is rendered and tokenised before another thread could have taken the work over.
const SHORT: usize = 8 << 10;

impl Ask {
    /// Renders, tokenises and compiles: what takes time. `salt` keeps what is cached for one key from another.
    ///
    /// What may take more than a moment leaves the other work of this thread to another one. That is a new thread where
    /// all are busy, and the allocator keeps a cache for each, so short chats stay where they are.
    ///
    /// # Errors
    /// A template that refuses, a prompt that is too long, a grammar that cannot be enforced.
    pub(crate) fn prepare(&self, served: &Served, salt: u64) -> Result<Prepared> {
        match self.is_short() {
            true => self.prepare_here(served, salt),
            false => tokio::task::block_in_place(|| self.prepare_here(served, salt)),
        }
    }

    /// Whether there is little text, and nothing to compile.
    fn is_short(&self) -> bool {
        let plain = self.form.is_none() && self.budget.is_none() && self.calls.tools.is_empty();
        let text = || self.messages.iter().map(|m| m.content.len()).sum::<usize>();
        let lean = || self.messages.len() < 64 && self.messages.iter().all(|m| m.extra.is_empty());
        plain && lean() && text() < SHORT
    }

    fn prepare_here(&self, served: &Served, salt: u64) -> Result<Prepared> {
        let card = &served.card;
        let own = card.template.as_ref().ok().and_then(format_of);
        let format = own.or_else(generic).filter(|_| self.calls.offers());
        let (messages, with) = with_tools(card, &self.messages, self.with.clone(), &self.calls);
        let prompt = card.prompt(&messages, &with)?;
        card.check_length(prompt.len(), "messages")?;
        let tail = &prompt[prompt.len().saturating_sub(16)..];
        let tail = card.tokenizer.decode(tail, true);
        let think = card.template.as_ref().ok().and_then(|t| think_of(t, &tail));
        let think = think.filter(|t| t.opened || !(self.with.goes_on || tail.trim_end().ends_with(&t.close)));
        let special = needs_special(&card.tokenizer, format, think.as_ref());
        let masks = self.masks(served, format, think.as_ref())?;
        let mut requests = self.draw.requests(&prompt, card.context - prompt.len(), salt);
        for (request, mask) in requests.iter_mut().zip(masks) {
            request.special = special;
            request.mask = mask;
            request.stop.extend(format.iter().flat_map(|f| f.stops).map(|s| (*s).to_owned()));
        }
        let names = self.calls.tools.iter().map(|t| t.name.clone()).collect();
        let think = think.filter(|_| !self.raw_thoughts);
        Ok(Prepared { requests, reading: Reading { format, names, think } })
    }

    /// A mask for each answer.
    fn masks(
        &self,
        served: &Served,
        format: Option<&'static Format>,
        think: Option<&Think>,
    ) -> Result<Vec<Option<Box<dyn Mask>>>> {
        let mut entry = match (format, &self.form) {
            (Some(format), form) => {
                let grammars = served.grammars()?;
                let form = form.as_ref().map(|(source, _)| source);
                plan(grammars, &served.card.tokenizer, format, &self.calls, form, think.cloned())
                    .map_err(|why| refusal(why, "tools"))?
            }
            (None, Some((source, param))) => {
                let made = served.grammars()?.entry(source, think.cloned());
                Some(made.map_err(|why| refusal(why, param))?)
            }
            (None, None) => None,
        };
        if let (Some(budget), Some(think)) = (self.budget, think) {
            entry = Some(served.grammars()?.end_thought(entry, think.clone(), budget));
        }
        Ok((0..self.draw.n).map(|_| entry.clone().map(Entry::mask)).collect())
    }
}

/// The format of models whose own is not known.
fn generic() -> Option<&'static Format> {
    format_of(&Template::new("{{ tools }}", "", "").ok()?)
}

/// A conversation and how it is rendered, with the tools that may be called: in the template's place for them, or told in
/// words where it has none.
pub(crate) fn with_tools<'a>(
    card: &Card,
    messages: &'a [Message],
    mut with: Rendering,
    calls: &Calls,
) -> (Cow<'a, [Message]>, Rendering) {
    let mut messages = Cow::from(messages);
    if calls.offers() {
        match card.template.as_ref().ok().and_then(format_of) {
            Some(_) => with.tools = Some(calls.tools.iter().map(|t| t.for_template()).collect()),
            None => instruct(messages.to_mut(), &shape::instructions(&calls.tools)),
        }
    }
    (messages, with)
}

/// Adds to the system's message, or puts one in front.
fn instruct(messages: &mut Vec<Message>, text: &str) {
    match messages.first_mut() {
        Some(first) if first.role == "system" => first.content = format!("{}\n\n{text}", first.content),
        _ => messages.insert(0, Message::system(text)),
    }
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
    // The request says these itself, and would be answered for another conversation.
    const OWN: &[&str] = &["messages", "tools", "add_generation_prompt"];
    if let Some(name) = extra.keys().find(|name| OWN.contains(&name.as_str())) {
        let line = format!("\"{name}\" is no variable to set: the request says it");
        return Err(ApiError::unsupported("chat_template_kwargs", line));
    }
    if let Some(name) = extra.keys().find(|name| !template.is_some_and(|t| t.reads_variable(name))) {
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
        Some("none") => thinking = crate::tools::unthinking(card, "reasoning_effort")?,
        Some(effort) if template.is_some_and(|t| t.reads_variable("reasoning_effort")) => {
            extra.insert("reasoning_effort".into(), effort.into());
        }
        Some(_) if template.is_some_and(|t| t.has_thinking_switch()) => thinking = Some(true),
        Some(_) => {
            let line = format!("the template of \"{}\" has no switch for reasoning", card.id);
            return Err(ApiError::unsupported("reasoning_effort", line));
        }
    }
    extra.extend(verbosity(f, card)?);
    Ok((thinking, extra))
}

/// How much is to be said, where the template has a place for it; "medium" is what models do unasked.
pub(crate) fn verbosity(f: &mut Fields, card: &Card) -> Result<Option<(String, Value)>> {
    let path = f.path("verbosity");
    let reads = card.template.as_ref().is_ok_and(|t| t.reads_variable("verbosity"));
    match f.choice("verbosity", &["low", "medium", "high"])? {
        Some(value) if reads => Ok(Some(("verbosity".into(), value.into()))),
        None | Some("medium") => Ok(None),
        Some(_) => {
            let line =
                format!("the template of \"{}\" has no place for \"{path}\"; say it in a message", card.id);
            Err(ApiError::unsupported(path, line))
        }
    }
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
