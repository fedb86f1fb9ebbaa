//! What form an answer must have: the tools it may call, and the schema or grammar it must keep to.

use serde_json::Value;

use crate::error::{ApiError, Result};
use crate::fields::{Fields, missing, wrong};
use crate::grammar::Source;
use crate::tools::{Calls, Choice, Tool};

/// Tools of a request at most.
pub(crate) const MOST_TOOLS: usize = 128;

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
pub(crate) fn calls(f: &mut Fields) -> Result<Calls> {
    let tools = f.list("tools", MOST_TOOLS)?.unwrap_or_default();
    let tools: Vec<Tool> =
        tools.into_iter().enumerate().map(|(i, t)| tool(t, &format!("tools[{i}]"))).collect::<Result<_>>()?;
    let tools = unlike(tools, "tools")?;
    let parallel = f.flag("parallel_tool_calls")?.unwrap_or(true);
    let given = f.take("tool_choice");
    let none = tools.is_empty();
    let mut calls = Calls { tools, choice: if none { Choice::None } else { Choice::Auto }, parallel };
    if let Some(value) = given {
        choose(value, &mut calls)?;
    }
    if none && calls.choice != Choice::None {
        return Err(ApiError::value("tool_choice", "\"tool_choice\" needs \"tools\""));
    }
    Ok(calls)
}

/// No tools.
pub(crate) fn no_calls() -> Calls {
    Calls { tools: Vec::new(), choice: Choice::None, parallel: false }
}

/// Refuses tools of one name.
pub(crate) fn unlike(tools: Vec<Tool>, at: &str) -> Result<Vec<Tool>> {
    if let Some(i) = (1..tools.len()).find(|&i| tools[..i].iter().any(|t| t.name == tools[i].name)) {
        let path = format!("{at}[{i}]");
        return Err(ApiError::value(&path, format!("\"{path}\" has the name of another tool")));
    }
    Ok(tools)
}

fn tool(value: Value, at: &str) -> Result<Tool> {
    let mut f = Fields::inner(value, at)?;
    match f.need_text("type")?.as_str() {
        "function" => {}
        _ => {
            let path = format!("{at}.type");
            let line = format!("\"{path}\" must be \"function\"; this server runs no tools of its own");
            return Err(ApiError::unsupported(path, line));
        }
    }
    let path = f.path("function");
    let mut function = f.object("function")?.ok_or_else(|| missing(&path))?;
    f.ignore(&["cache_control"])?;
    f.finish(None)?;
    let name = function.need_text("name")?;
    check_name(&name, &function.path("name"))?;
    let path = function.path("parameters");
    let parameters = parameters(function.take("parameters"), &path)?;
    let description = function.text("description")?;
    let strict = function.flag("strict")?.unwrap_or(false);
    function.finish(None)?;
    Ok(Tool { name, description, parameters, strict })
}

/// The schema of a tool's arguments, which are an object.
pub(crate) fn parameters(given: Option<Value>, path: &str) -> Result<Option<Value>> {
    let Some(schema) = given else { return Ok(None) };
    if !schema.is_object() {
        return Err(wrong(path, "a JSON schema, an object", &schema));
    }
    let object = |kind: &Value| kind == "object";
    match &schema["type"] {
        Value::Null => Ok(Some(schema)),
        Value::Array(kinds) if kinds.iter().any(object) => Ok(Some(schema)),
        kind if object(kind) => Ok(Some(schema)),
        kind => {
            let shown: String = kind.to_string().chars().take(40).collect();
            let line = format!("\"{path}.type\" must be \"object\", since arguments are one, not {shown}");
            Err(ApiError::value(format!("{path}.type"), line))
        }
    }
}

/// The name of a tool, as OpenAI has it.
pub(crate) fn check_name(name: &str, path: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match (1..=64).contains(&name.len()) && name.chars().all(known) {
        true => Ok(()),
        false => {
            let line = format!("\"{path}\" must have 1 to 64 letters, digits, '_' and '-'");
            Err(ApiError::value(path, line))
        }
    }
}

/// Reads a `tool_choice`.
pub(crate) fn choose(value: Value, calls: &mut Calls) -> Result<()> {
    const WANTED: &str = "none, auto, required, or an object that names a function";
    match value {
        Value::String(word) => {
            calls.choice = match word.as_str() {
                "none" => Choice::None,
                "auto" => Choice::Auto,
                "required" => Choice::Required,
                _ => {
                    let line = format!("\"tool_choice\" must be {WANTED}");
                    return Err(ApiError::bad("unsupported_value", line).at("tool_choice"));
                }
            };
            Ok(())
        }
        Value::Object(_) => {
            let mut f = Fields::inner(value, "tool_choice")?;
            match f.choice("type", &["function", "allowed_tools"])? {
                Some("function") | None => {
                    let mut function =
                        f.object("function")?.ok_or_else(|| missing("tool_choice.function"))?;
                    f.finish(None)?;
                    let name = function.need_text("name")?;
                    function.finish(None)?;
                    known(calls, &name, "tool_choice.function.name")?;
                    calls.choice = Choice::Named(name);
                }
                Some(_) => {
                    let mut allowed =
                        f.object("allowed_tools")?.ok_or_else(|| missing("tool_choice.allowed_tools"))?;
                    f.finish(None)?;
                    allow(&mut allowed, calls)?;
                    allowed.finish(None)?;
                }
            }
            Ok(())
        }
        other => Err(wrong("tool_choice", WANTED, &other)),
    }
}

fn allow(f: &mut Fields, calls: &mut Calls) -> Result<()> {
    let mode =
        f.choice("mode", &["auto", "required"])?.ok_or_else(|| missing("tool_choice.allowed_tools.mode"))?;
    let path = f.path("tools");
    let mut names = Vec::new();
    for (i, one) in f.list("tools", MOST_TOOLS)?.ok_or_else(|| missing(&path))?.into_iter().enumerate() {
        let at = format!("{path}[{i}]");
        let mut one = Fields::inner(one, &at)?;
        one.choice("type", &["function"])?;
        let mut function = one.object("function")?.ok_or_else(|| missing(&format!("{at}.function")))?;
        one.finish(None)?;
        let name = function.need_text("name")?;
        function.finish(None)?;
        known(calls, &name, &at)?;
        names.push(name);
    }
    calls.tools.retain(|t| names.contains(&t.name));
    calls.choice = if mode == "auto" { Choice::Auto } else { Choice::Required };
    Ok(())
}

pub(crate) fn known(calls: &Calls, name: &str, path: &str) -> Result<()> {
    if calls.tools.iter().any(|t| t.name == name) {
        return Ok(());
    }
    if calls.tools.is_empty() {
        return Err(ApiError::value("tool_choice", "\"tool_choice\" needs \"tools\""));
    }
    let shown: String = name.chars().take(64).collect();
    let all: Vec<&str> = calls.tools.iter().map(|t| t.name.as_str()).collect();
    Err(ApiError::value(path, format!("there is no tool \"{shown}\"; known: {}", all.join(", "))))
}

/// A grammar that an answer must keep to, and the field that asks for it.
pub(crate) type Form = (Source, &'static str);

/// Reads `response_format`, and what other servers' clients send in its place.
pub(crate) fn form(f: &mut Fields) -> Result<Option<Form>> {
    let mut found: Vec<Form> = Vec::new();
    found.extend(response_format(f)?.map(|s| (s, "response_format")));
    found.extend(
        f.take("json_schema").map(|s| schema(s, "json_schema")).transpose()?.map(|s| (s, "json_schema")),
    );
    found.extend(f.text("grammar")?.map(|g| (Source::Gbnf(g), "grammar")));
    found.extend(
        f.take("guided_json").map(|s| schema(s, "guided_json")).transpose()?.map(|s| (s, "guided_json")),
    );
    found.extend(f.text("guided_regex")?.map(|r| (Source::Regex(r), "guided_regex")));
    found.extend(words(f, "guided_choice")?.map(|s| (s, "guided_choice")));
    if let Some(mut inner) = f.object("structured_outputs")? {
        let at = "structured_outputs";
        found.extend(inner.take("json").map(|s| schema(s, at)).transpose()?.map(|s| (s, at)));
        found.extend(inner.text("regex")?.map(|r| (Source::Regex(r), at)));
        found.extend(words(&mut inner, "choice")?.map(|s| (s, at)));
        if inner.flag("json_object")? == Some(true) {
            found.push((Source::JsonObject, at));
        }
        inner.refuse(&[("grammar", "give it as \"response_format\" of the type \"grammar\"")])?;
        inner.finish(None)?;
    }
    f.refuse(&[("guided_grammar", "give it as \"response_format\" of the type \"grammar\"")])?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => {
            let line = format!(
                "\"{}\" and \"{}\" both say what the answer must be; give one",
                found[0].1, found[1].1
            );
            Err(ApiError::value(found[1].1, line))
        }
    }
}

/// A schema, which some clients send as text.
fn schema(value: Value, at: &str) -> Result<Source> {
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(Source::JsonSchema(value)),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Source::JsonSchema(schema)),
            _ => Err(ApiError::value(at, format!("\"{at}\" holds no JSON schema"))),
        },
        other => Err(wrong(at, "a JSON schema, an object", &other)),
    }
}

/// One of a few texts.
fn words(f: &mut Fields, name: &'static str) -> Result<Option<Source>> {
    let path = f.path(name);
    let Some(list) = f.list(name, 1024)? else { return Ok(None) };
    if list.is_empty() || !list.iter().all(|w| w.as_str().is_some_and(|w| !w.is_empty())) {
        return Err(ApiError::value(
            &path,
            format!("\"{path}\" must be an array of texts, none of them empty"),
        ));
    }
    let all: Vec<String> = list.iter().map(Value::to_string).collect();
    Ok(Some(Source::Lark(format!("start: {}\n", all.join(" | ")))))
}

fn response_format(f: &mut Fields) -> Result<Option<Source>> {
    const TYPES: &[&str] = &["text", "json_object", "json_schema", "regex", "grammar"];
    let Some(mut format) = f.object("response_format")? else { return Ok(None) };
    let path = format.path("type");
    let kind = format.choice("type", TYPES)?.ok_or_else(|| missing(&path))?;
    let source = match kind {
        "text" => None,
        // llama.cpp's clients put a schema beside it.
        "json_object" => match format.take("schema") {
            Some(given) => Some(schema(given, "response_format.schema")?),
            None => Some(Source::JsonObject),
        },
        "json_schema" => Some(json_schema(&mut format)?),
        "regex" => Some(Source::Regex(format.need_text("regex")?)),
        _ => {
            let grammar = format.need_text("grammar")?;
            match format.choice("syntax", &["gbnf", "lark"])? {
                Some("lark") => Some(Source::Lark(grammar)),
                _ => Some(Source::Gbnf(grammar)),
            }
        }
    };
    format.finish(None)?;
    Ok(source)
}

fn json_schema(format: &mut Fields) -> Result<Source> {
    let at = "response_format.json_schema";
    if let Some(bare) = format.take("schema") {
        return schema(bare, "response_format.schema");
    }
    let mut inner = format.object("json_schema")?.ok_or_else(|| missing(at))?;
    let name = inner.text("name")?;
    if let Some(name) = name {
        check_name(&name, &format!("{at}.name"))?;
    }
    inner.text("description")?;
    // A schema is kept to in any case.
    inner.flag("strict")?;
    let given = inner.take("schema");
    inner.finish(None)?;
    match given {
        Some(given) => schema(given, "response_format.json_schema.schema"),
        None => Ok(Source::JsonObject),
    }
}

/// What a model is told of its tools where its template has no place for them.
pub(crate) fn instructions(tools: &[Tool]) -> String {
    let mut text = String::from("You can call these functions:\n");
    for tool in tools {
        text += &tool.for_template()["function"].to_string();
        text += "\n";
    }
    text + "To call one, answer with this JSON alone: {\"name\": \"FUNCTION\", \"arguments\": {...}}"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{calls, form};
    use crate::fields::Fields;
    use crate::grammar::Source;
    use crate::tools::Choice;

    fn tools(more: Value) -> Result<crate::tools::Calls, String> {
        let mut body = json!({ "tools": [
            { "type": "function", "function": { "name": "add", "parameters": { "type": "object" }, "description": null } },
            { "type": "function", "function": { "name": "sub" } }] });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let mut f = Fields::body(body).expect("an object");
        let read = calls(&mut f).map_err(|e| e.message)?;
        f.finish(None).map_err(|e| e.message)?;
        Ok(read)
    }

    #[test]
    fn tools_are_chosen() {
        assert_eq!(tools(json!({})).unwrap().choice, Choice::Auto);
        assert_eq!(tools(json!({ "tool_choice": "required" })).unwrap().choice, Choice::Required);
        let named = json!({ "tool_choice": { "type": "function", "function": { "name": "sub" } } });
        assert_eq!(tools(named).unwrap().choice, Choice::Named("sub".into()));
        let allowed = json!({ "tool_choice": { "type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{ "type": "function", "function": { "name": "sub" } }] } } });
        let read = tools(allowed).unwrap();
        assert_eq!((read.tools.len(), read.choice), (1, Choice::Required));
        for (more, part) in [
            (json!({ "tool_choice": "always" }), "must be none, auto, required"),
            (
                json!({ "tool_choice": { "type": "function", "function": { "name": "mul" } } }),
                "known: add, sub",
            ),
            (json!({ "tools": [], "tool_choice": "auto" }), "needs \"tools\""),
            (
                json!({ "tools": [{ "type": "function", "function": { "name": "a", "parameters": { "type": "array" } } }] }),
                "\"tools[0].function.parameters.type\" must be \"object\"",
            ),
            (json!({ "tools": [{ "type": "web_search" }] }), "runs no tools of its own"),
            (json!({ "tools": [{ "type": "function", "function": { "name": "a b" } }] }), "1 to 64 letters"),
            (
                json!({ "tools": [{ "type": "function", "function": { "name": "a", "x": 1 } }] }),
                "is not known",
            ),
        ] {
            let error = tools(more).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn forms_are_read() {
        let read = |body: Value| form(&mut Fields::body(body).unwrap()).map_err(|e| e.message);
        let schema = json!({ "type": "object" });
        let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema, "strict": true } });
        let want = Some((Source::JsonSchema(schema.clone()), "response_format"));
        assert_eq!(read(json!({ "response_format": format })).unwrap(), want);
        assert_eq!(read(json!({ "response_format": { "type": "text" } })).unwrap(), None);
        let regex = json!({ "response_format": { "type": "regex", "regex": "a+" } });
        assert_eq!(read(regex).unwrap().unwrap().0, Source::Regex("a+".into()));
        let choice = read(json!({ "guided_choice": ["yes", "no"] })).unwrap().unwrap().0;
        assert_eq!(choice, Source::Lark("start: \"yes\" | \"no\"\n".into()));
        let both = read(json!({ "grammar": "root ::= \"a\"", "json_schema": schema }));
        assert!(both.unwrap_err().contains("give one"));
        assert!(read(json!({ "response_format": { "type": "xml" } })).unwrap_err().contains("json_object"));
    }
}
