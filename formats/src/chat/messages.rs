//! Messages as people and programs write them in JSON, read strictly: what the template would not show is refused.

use serde_json::{Map, Value as Json};

use super::{Message, Template};

/// Keys of a message that change nothing in its text.
const HARMLESS: [&str; 6] = ["id", "timestamp", "name", "tool_call_id", "tool_name", "annotations"];

/// Reads a list of messages that `template` will show.
///
/// # Errors
/// What is wrong with the first one that is, as the end of a sentence without the name of the file.
pub fn messages(json: Json, template: &Template) -> Result<Vec<Message>, String> {
    match json {
        Json::Array(list) if !list.is_empty() => {
            list.into_iter().enumerate().map(|(i, m)| message(i + 1, m, template)).collect()
        }
        Json::Array(_) => Err("there are no messages".into()),
        _ => Err("the messages are no list".into()),
    }
}

fn message(number: usize, json: Json, template: &Template) -> Result<Message, String> {
    let Json::Object(mut map) = json else {
        return Err(format!("message {number} is no object"));
    };
    map.retain(|_, value| !value.is_null());
    let role = match map.remove("role") {
        Some(Json::String(role)) => role,
        Some(_) => return Err(format!("the \"role\" of message {number} is no text")),
        None => return Err(format!("message {number} has no \"role\"")),
    };
    let content = match map.remove("content") {
        Some(content) => text(content).map_err(|what| format!("message {number} {what}"))?,
        None if map.contains_key("tool_calls") => String::new(),
        None => return Err(format!("message {number} has no \"content\"")),
    };
    // Templates take arguments as an object, and OpenAI's clients send them as text.
    for call in map.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        if let Some(object @ Json::Object(_)) =
            arguments.as_str().and_then(|text| serde_json::from_str(text).ok())
        {
            *arguments = object;
        }
    }
    let unread = |key: &&String| !HARMLESS.contains(&key.as_str()) && !template.reads_field(key);
    if let Some(key) = map.keys().find(unread) {
        let shown: String = key.chars().take(60).collect();
        return Err(format!("message {number} has {shown:?}, which the chat template does not show"));
    }
    Ok(Message { role, content, extra: Map::from_iter(map) })
}

/// The text of a content: a text, or parts of text.
fn text(content: Json) -> Result<String, String> {
    let parts = match content {
        Json::String(text) => return Ok(text),
        Json::Array(parts) => parts,
        _ => return Err("has a \"content\" that is neither a text nor a list of parts".into()),
    };
    let part = |part: &Json| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        _ => Err("has a part that is not text".to_owned()),
    };
    parts.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Template, messages};

    #[test]
    fn what_a_template_does_not_show_is_refused() {
        let source = "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.mood }}{% endfor %}";
        let template = Template::new(source, "", "").expect("a template");
        let read = |json: Value| messages(json, &template);
        let said = read(json!([{ "role": "user", "content": [{ "type": "text", "text": "a" }], "mood": "b",
                                 "name": null, "id": 3 }]));
        assert_eq!(said.expect("read")[0].content, "a");
        for (json, want) in [
            (json!({}), "the messages are no list"),
            (json!([]), "there are no messages"),
            (json!([1]), "message 1 is no object"),
            (json!([{ "content": "a" }]), "message 1 has no \"role\""),
            (json!([{ "role": "user", "contnt": "a" }]), "message 1 has no \"content\""),
            (json!([{ "role": "user", "content": "a", "weight": 0 }]), "message 1 has \"weight\", which"),
            (json!([{ "role": "user", "content": [{ "type": "image" }] }]), "has a part that is not text"),
            (json!([{ "role": "user", "content": 5 }]), "neither a text nor a list"),
        ] {
            assert!(read(json).expect_err("refused").contains(want), "{want}");
        }
    }

    /// Names that stand in a template and read nothing from outside: its own variables, keywords, words between tags.
    #[test]
    fn what_is_read_from_outside_is_told_from_a_template_s_own_names() {
        let source = "{% set ns = namespace(last=0) %}{% if not date is defined %}{% set date = 'today' %}{% endif %}\
                      {% macro show(text, tail=mark) %}{{ text }}{{ tail }}{% endmacro %}{# secret #}mood\
                      {% for m in messages %}{% set body = m.content %}{{ show(body, m['tail']) }}{{ loop.index }}\
                      {% set ns.last = loop.index0 %}{% if m.get('kind') == 'x' %}{{ style.name }}{% endif %}\
                      {% endfor %}{{ body }}{{ date }}";
        let template = Template::new(source, "", "").expect("a template");
        for name in ["messages", "namespace", "date", "mark", "style", "body"] {
            assert!(template.reads_variable(name), "{name}");
        }
        for name in
            ["ns", "text", "tail", "show", "m", "loop", "secret", "mood", "endfor", "content", "kind", "last"]
        {
            assert!(!template.reads_variable(name), "{name}");
        }
        for name in ["content", "tail", "kind", "x", "name"] {
            assert!(template.reads_field(name), "{name}");
        }
        for name in ["body", "text", "mood", "m", "style"] {
            assert!(!template.reads_field(name), "{name}");
        }
    }

    #[test]
    fn arguments_held_as_text_are_parsed() {
        let template = Template::new("{{ messages[0].tool_calls }}", "", "").expect("a template");
        let call = json!({ "function": { "name": "f", "arguments": "{\"a\": 1}" } });
        let said = messages(json!([{ "role": "assistant", "tool_calls": [call] }]), &template);
        assert_eq!(said.expect("read")[0].extra["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
    }
}
