//! What a record means. A key that would change what is learnt is honoured or refused by name.

use serde_json::{Map, Value as Json};
use weft_formats::chat::{Message, Options, Template};

use super::{Learn, Reading};

/// A record that was understood.
pub(super) struct Record {
    pub(super) content: Content,
    /// What it was read as.
    pub(super) form: &'static str,
    /// Nulls that were left out of arguments.
    pub(super) nulls: usize,
}

pub(super) enum Content {
    Talk(Talk),
    Text(String),
}

/// A conversation.
pub(super) struct Talk {
    pub(super) messages: Vec<Message>,
    /// For each message whether its tokens are learnt, where they are found.
    pub(super) learnt: Vec<bool>,
    pub(super) tools: Option<Json>,
    /// What else the template reads.
    pub(super) variables: Map<String, Json>,
}

/// Keys of a record that say where it comes from.
const ORIGIN: [&str; 16] = [
    "id",
    "idx",
    "index",
    "uuid",
    "source",
    "dataset",
    "origin",
    "license",
    "url",
    "timestamp",
    "created",
    "metadata",
    "meta",
    "split",
    "prompt_id",
    "num_turns",
];
/// Keys by which records and messages say whether they are learnt.
const WEIGHTS: [&str; 2] = ["weight", "train"];
const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

/// A form: its name, the key by which it is known, and the keys it reads. What several have in common is taken
/// before.
const FORMS: [(&str, &str); 5] = [
    ("messages", "messages"),
    ("ShareGPT conversations", "conversations"),
    ("prompt and completion", "prompt"),
    ("Alpaca instructions", "instruction"),
    ("texts", "text"),
];

impl Record {
    pub(super) fn read(mut json: Map<String, Json>, how: &Reading<'_>) -> Result<Record, String> {
        // Tables fill in what a row lacks.
        json.retain(|key, value| !value.is_null() && !how.ignore_keys.contains(key));
        if let Some(key) =
            ["rejected", "non_preferred_output"].into_iter().find(|key| json.contains_key(*key))
        {
            return Err(format!(
                "has {key:?}, so it is of preferences (DPO), of which nothing is learnt here; give \"prompt\" and, as \
                 \"completion\", the answer to learn"
            ));
        }
        let Some((form, key)) = FORMS.into_iter().find(|(_, key)| json.contains_key(*key)) else {
            let keys: Vec<_> = json.keys().take(8).map(|k| format!("{k:?}")).collect();
            let has = if keys.is_empty() { String::new() } else { format!(", but {}", keys.join(", ")) };
            return Err(format!(
                "has neither \"messages\", nor \"conversations\" (ShareGPT), nor \"prompt\" and \"completion\", nor \
                 \"instruction\" and \"output\" (Alpaca), nor \"text\"{has}"
            ));
        };
        let value = json.remove(key).unwrap_or_default();
        if key == "text" {
            let text = text_of(value, "text")?;
            unread(&json, how, None)?;
            return Ok(Record { content: Content::Text(text), form, nulls: 0 });
        }
        let mut reader = Messages { how, messages: Vec::new(), learnt: Vec::new(), nulls: 0 };
        match key {
            "messages" | "conversations" => reader.list(key, value, true)?,
            "prompt" => reader.prompt(value, json.remove("completion"))?,
            _ => reader.alpaca(value, &mut json)?,
        }
        if let Some(system) = json.remove("system") {
            reader.system(text_of(system, "system")?)?;
        }
        let tools = json.remove("tools").map(tools).transpose()?.flatten();
        if tools.is_some() && !how.template.reads_variable("tools") {
            return Err(unhonoured("tools"));
        }
        let mut variables =
            match json.remove("chat_template_kwargs").map(|v| parsed(v, "chat_template_kwargs")) {
                None => Map::new(),
                Some(Ok(Json::Object(map))) => map,
                Some(other) => {
                    return Err(format!("\"chat_template_kwargs\" is {}, not an object", clip(&other?)));
                }
            };
        unread(&json, how, Some(&mut variables))?;
        let Messages { mut messages, learnt, nulls, .. } = reader;
        arguments_as_expected(&mut messages, tools.as_ref(), how);
        Ok(Record { content: Content::Talk(Talk { messages, learnt, tools, variables }), form, nulls })
    }
}

/// Refuses the keys that are left, by name. Those that a template reads become its variables.
fn unread(
    json: &Map<String, Json>,
    how: &Reading<'_>,
    mut variables: Option<&mut Map<String, Json>>,
) -> Result<(), String> {
    for (key, value) in json {
        if ORIGIN.contains(&key.as_str()) {
            continue;
        }
        match &mut variables {
            Some(variables) if how.template.reads_variable(key) => {
                drop(variables.insert(key.clone(), value.clone()))
            }
            _ => {
                return Err(format!(
                    "has the key {key:?}, which nothing reads; --ignore-keys {key} leaves it out"
                ));
            }
        }
    }
    Ok(())
}

fn unhonoured(key: &str) -> String {
    format!(
        "has {key:?}, which the chat template does not show; --chat-template FILE gives another, --ignore-keys {key} leaves it out"
    )
}

/// Reads messages.
struct Messages<'a> {
    how: &'a Reading<'a>,
    messages: Vec<Message>,
    learnt: Vec<bool>,
    nulls: usize,
}

impl Messages<'_> {
    fn push(&mut self, message: Message, learnt: bool) {
        self.messages.push(message);
        self.learnt.push(learnt);
    }

    /// A list of messages under `key`. What it has of the assistant is learnt if `learn`.
    fn list(&mut self, key: &str, value: Json, learn: bool) -> Result<(), String> {
        let list = match parsed(value, key)? {
            Json::Array(list) if !list.is_empty() => list,
            Json::Array(_) => return Err(format!("{key:?} is empty")),
            other => return Err(format!("{key:?} is {}, not a list", clip(&other))),
        };
        for (i, json) in list.into_iter().enumerate() {
            let (message, learnt) = self.message(i + 1, json)?;
            self.push(message, learnt && learn);
        }
        Ok(())
    }

    /// `prompt` and `completion`: two texts, or two lists of messages of which the second is learnt.
    fn prompt(&mut self, prompt: Json, completion: Option<Json>) -> Result<(), String> {
        let completion = completion.ok_or("\"completion\" is missing")?;
        if prompt.is_array() && completion.is_array() {
            self.list("prompt", prompt, false)?;
            return self.list("completion", completion, true);
        }
        let (prompt, completion) = (text_of(prompt, "prompt")?, text_of(completion, "completion")?);
        self.push(Message::user(prompt), true);
        self.push(Message::assistant(completion), true);
        Ok(())
    }

    /// `instruction` with an `input` below it, and what was answered to it.
    fn alpaca(&mut self, instruction: Json, json: &mut Map<String, Json>) -> Result<(), String> {
        let mut text = |key: &str| json.remove(key).map(|v| text_of(v, key)).transpose();
        let instruction = text_of(instruction, "instruction")?;
        let (input, output) = (text("input")?.unwrap_or_default(), text("output")?);
        let output = output.ok_or("\"instruction\" is there, but \"output\" is missing")?;
        // Some publish the three as one text beside them.
        json.remove("text");
        if json.get("history").and_then(Json::as_array).is_some_and(Vec::is_empty) {
            json.remove("history");
        }
        let asked = if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
        self.push(Message::user(asked), true);
        self.push(Message::assistant(output), true);
        Ok(())
    }

    /// A system text beside the messages.
    fn system(&mut self, text: String) -> Result<(), String> {
        match self.messages.first() {
            _ if text.is_empty() => Ok(()),
            Some(first) if first.role == "system" && first.content == text => Ok(()),
            Some(first) if first.role == "system" => Err(
                "has a \"system\" text and a system message besides; leave one out (--ignore-keys system)"
                    .to_owned(),
            ),
            _ => {
                self.messages.insert(0, Message::system(text));
                self.learnt.insert(0, true);
                Ok(())
            }
        }
    }

    /// Message `number`, counted from 1, and whether it is learnt where it is the assistant's.
    fn message(&mut self, number: usize, json: Json) -> Result<(Message, bool), String> {
        let template = self.how.template;
        let Json::Object(mut map) = json else {
            return Err(format!("message {number} is {}, not an object", clip(&json)));
        };
        map.retain(|key, value| !value.is_null() && !self.how.ignore_keys.contains(key));
        let role = role(number, &mut map, template)?;
        let learnt = self.learnt(number, &role, &mut map)?;
        let calls = map.remove("tool_calls").map(|v| self.calls(number, v)).transpose()?.flatten();
        let value = map.remove("content").or_else(|| map.remove("value"));
        let content = match value {
            None if calls.is_some() => String::new(),
            None => return Err(format!("message {number} has no \"content\"")),
            Some(value) => content(number, value)?,
        };
        if let Some(calls) = calls {
            if !template.reads_field("tool_calls") {
                return Err(format!("message {number} {}", unhonoured("tool_calls")));
            }
            map.insert("tool_calls".to_owned(), calls);
        }
        for key in map.keys() {
            let names_a_tool =
                role == "tool" && ["name", "tool_call_id", "tool_name"].contains(&key.as_str());
            let harmless = ["id", "timestamp", "tool_call_id"].contains(&key.as_str()) || names_a_tool;
            if key != "tool_calls" && !harmless && !template.reads_field(key) {
                return Err(format!("message {number} {}", unhonoured(key)));
            }
        }
        Ok((Message { role, content, extra: map }, learnt))
    }

    /// Whether a message is learnt, by `weight` as OpenAI and Mistral have it or `train` as axolotl has it.
    fn learnt(&self, number: usize, role: &str, map: &mut Map<String, Json>) -> Result<bool, String> {
        let mut learnt = true;
        for key in WEIGHTS {
            let Some(value) = map.remove(key) else { continue };
            let on = match (&value, value.as_f64()) {
                (Json::Bool(on), _) => *on,
                (_, Some(0.0)) => false,
                (_, Some(1.0)) => true,
                _ => {
                    let shown = clip(&value);
                    return Err(format!(
                        "message {number} has the {key} {shown}; it can be 0 or 1, false or true"
                    ));
                }
            };
            let assistant = role == "assistant";
            if !assistant && on != (self.how.learn == Learn::All) {
                let loss = if on { "assistant" } else { "all" };
                return Err(format!(
                    "message {number}, of the role {role}, has the {key} {}, which --loss {loss} does not heed; \
                     --ignore-keys {key} leaves it out",
                    clip(&value)
                ));
            }
            learnt &= on || !assistant;
        }
        Ok(learnt)
    }

    /// The tool calls of a message as templates expect them: arguments as an object. None for an empty list.
    fn calls(&mut self, number: usize, value: Json) -> Result<Option<Json>, String> {
        let wrong = |what: String| Err(format!("the tool_calls of message {number} {what}"));
        let Json::Array(mut calls) = parsed(value, "tool_calls")? else {
            return wrong("are not a list".to_owned());
        };
        calls.retain(|c| !c.is_null());
        for call in &mut calls {
            let Json::Object(call) = call else {
                return wrong(format!("hold {}, not an object", clip(call)));
            };
            call.retain(|_, v| !v.is_null());
            let function = match call.get_mut("function") {
                Some(Json::Object(function)) => {
                    function.retain(|_, v| !v.is_null());
                    function
                }
                Some(other) => return wrong(format!("have the function {}, not an object", clip(other))),
                // Some have name and arguments at once.
                None => call,
            };
            let Some(arguments) = function.get_mut("arguments") else { continue };
            match arguments {
                Json::String(text) if text.trim().is_empty() => *arguments = Json::Object(Map::new()),
                Json::String(text) => match serde_json::from_str(text) {
                    Ok(Json::Object(map)) => *arguments = Json::Object(map),
                    _ => {
                        return wrong(format!(
                            "have the arguments {}, which are no JSON object",
                            clip(arguments)
                        ));
                    }
                },
                Json::Object(map) => self.nulls += without_nulls(map),
                other => return wrong(format!("have the arguments {}, not an object", clip(other))),
            }
        }
        Ok((!calls.is_empty()).then_some(Json::Array(calls)))
    }
}

/// The role, under either name.
fn role(number: usize, map: &mut Map<String, Json>, template: &Template) -> Result<String, String> {
    let sharegpt = !map.contains_key("role");
    let Some(value) = map.remove("role").or_else(|| map.remove("from")) else {
        return Err(format!("message {number} has no \"role\""));
    };
    let role = value.as_str().unwrap_or_default();
    let known = match role {
        "human" if sharegpt => "user",
        "gpt" | "chatgpt" | "model" | "bot" if sharegpt => "assistant",
        "observation" | "function_response" if sharegpt => "tool",
        "developer" if template.reads_field("developer") => "developer",
        role => match ROLES.into_iter().find(|r| *r == role) {
            Some(known) => known,
            None => {
                let known =
                    if sharegpt { "human, gpt, system, tool" } else { "system, user, assistant, tool" };
                return Err(format!("message {number} has the role {} (known: {known})", clip(&value)));
            }
        },
    };
    Ok(known.to_owned())
}

/// A text, or its parts.
fn content(number: usize, value: Json) -> Result<String, String> {
    match value {
        Json::String(text) => Ok(text),
        Json::Array(parts) => {
            let mut text = String::new();
            for part in parts {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text"), Some(t)) => text.push_str(t),
                    _ => {
                        return Err(format!("message {number} has a part that is not text: {}", clip(&part)));
                    }
                }
            }
            Ok(text)
        }
        other => Err(format!("the content of message {number} is {}, not a text", clip(&other))),
    }
}

/// Tools as a list; a text holds them as JSON. None for an empty list.
fn tools(value: Json) -> Result<Option<Json>, String> {
    let Json::Array(mut list) = parsed(value, "tools")? else {
        return Err("\"tools\" is not a list of tools".to_owned());
    };
    for tool in &mut list {
        if let Json::String(text) = tool {
            *tool = parsed(Json::String(std::mem::take(text)), "tools")?;
        }
        let Json::Object(map) = tool else {
            return Err(format!("\"tools\" holds {}, not an object", clip(tool)));
        };
        schema_without_nulls(map);
    }
    Ok((!list.is_empty()).then_some(Json::Array(list)))
}

/// A list or an object; one that stands there as text is parsed.
fn parsed(value: Json, key: &str) -> Result<Json, String> {
    let Json::String(text) = value else { return Ok(value) };
    match serde_json::from_str(&text) {
        Ok(json @ (Json::Array(_) | Json::Object(_))) => Ok(json),
        _ => {
            Err(format!("{key:?} is the text {}, which is no JSON list or object", clip(&Json::String(text))))
        }
    }
}

/// A schema where null stands for what a table filled in. A null that is a default stays.
fn schema_without_nulls(map: &mut Map<String, Json>) {
    map.retain(|key, value| !value.is_null() || ["default", "const", "example"].contains(&key.as_str()));
    for value in map.values_mut() {
        match value {
            Json::Object(map) => schema_without_nulls(map),
            Json::Array(list) => {
                list.iter_mut().filter_map(Json::as_object_mut).for_each(schema_without_nulls)
            }
            _ => {}
        }
    }
}

/// Takes the keys out whose value is null, at any depth, and says how many.
fn without_nulls(map: &mut Map<String, Json>) -> usize {
    let before = map.len();
    map.retain(|_, value| !value.is_null());
    let mut count = before - map.len();
    for value in map.values_mut() {
        count += match value {
            Json::Object(map) => without_nulls(map),
            Json::Array(list) => list.iter_mut().filter_map(Json::as_object_mut).map(without_nulls).sum(),
            _ => 0,
        };
    }
    count
}

/// Some templates print arguments as they are, which wants JSON as text, where most take an object: a rendering
/// that has an object as Python would print it, or that fails, shows the former.
fn arguments_as_expected(messages: &mut [Message], tools: Option<&Json>, how: &Reading<'_>) {
    let arguments = |m: &mut Message, change: &mut dyn FnMut(&mut Json)| {
        let calls = m.extra.get_mut("tool_calls").and_then(Json::as_array_mut);
        for call in calls.into_iter().flatten() {
            let holder = if call.get("function").is_some() { &mut call["function"] } else { call };
            if let Some(arguments) = holder.get_mut("arguments") {
                change(arguments);
            }
        }
    };
    const PROBE: &str = "weft_probe";
    let mut any = false;
    let mut probe = messages.to_vec();
    for m in &mut probe {
        arguments(m, &mut |a| {
            any = true;
            *a = serde_json::json!({ PROBE: PROBE });
        });
    }
    if !any {
        return;
    }
    let options = Options { tools: tools.cloned(), now: Some(how.now), ..Options::default() };
    let as_text = match how.template.render(&probe, &options) {
        Ok(text) => text.contains(&format!("{{'{PROBE}': '{PROBE}'}}")),
        Err(_) => {
            for m in &mut probe {
                arguments(m, &mut |a| *a = Json::String(format!("{{\"{PROBE}\": 1}}")));
            }
            how.template.render(&probe, &options).is_ok()
        }
    };
    if as_text {
        for m in messages {
            arguments(m, &mut |a| *a = Json::String(weft_formats::chat::json_text(a)));
        }
    }
}

fn text_of(value: Json, key: &str) -> Result<String, String> {
    match value {
        Json::String(s) => Ok(s),
        other => Err(format!("{key:?} is {}, not a text", clip(&other))),
    }
}

fn clip(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
