//! The grammar that holds an answer to calls that can be carried out.

use serde_json::{Value, json};
use weft_formats::tokenizer::Tokenizer;

use super::formats::{Format, Writer};
use super::{Calls, Choice, Tool, native};
use crate::grammar::{Body, Entry, Grammars, Part, Refusal, SPACE, Source, Think, Trigger};

/// The grammar of an answer that may or must call tools; None where it may not.
///
/// With `auto`, the grammar is in force from what opens a call on, so that a call that is begun is a call; otherwise from
/// the first token behind the thought. Arguments are held to the tool's schema; where that cannot be enforced and the tool
/// is not strict, to an object. With a `form`, an answer that calls nothing has that form.
///
/// # Errors
/// A strict tool's schema that cannot be enforced, or a name that no tool has.
pub fn plan(
    grammars: &Grammars,
    tokenizer: &Tokenizer,
    format: &'static Format,
    calls: &Calls,
    form: Option<&Source>,
    think: Option<Think>,
) -> Result<Option<Entry>, Refusal> {
    let tools: Vec<&Tool> = match &calls.choice {
        Choice::None => return Ok(None),
        Choice::Named(name) => calls.tools.iter().filter(|t| t.name == *name).collect(),
        Choice::Auto | Choice::Required => calls.tools.iter().collect(),
    };
    match &calls.choice {
        Choice::Named(name) if tools.is_empty() => {
            return Err(Refusal::new(format!("no tool is named {name:?}")));
        }
        Choice::Required if tools.is_empty() => {
            return Err(Refusal::new("a call is required, and there are no tools"));
        }
        _ if tools.is_empty() => return Ok(None),
        _ => {}
    }
    let tag = |text: &str| match tokenizer.token_id(text).filter(|&id| tokenizer.is_special(id)) {
        Some(id) => format!("<[{id}]>"),
        None => serde_json::to_string(text).unwrap_or_default(),
    };
    let writer = Writer { tag: &tag };
    let arguments: Vec<Arguments> = tools
        .iter()
        .enumerate()
        .map(|(i, t)| Arguments::new(grammars, &writer, format, i, t))
        .collect::<Result<_, _>>()?;
    let names: Vec<&str> = tools.iter().map(|t| t.name.as_str()).collect();
    let source = |start: &str, rules: &str| {
        let mut lark = format!("start: {start}\n{rules}");
        let mut parts = Vec::new();
        for (i, a) in arguments.iter().enumerate().filter(|(i, _)| uses(rules, *i)) {
            match a {
                Arguments::Rules(rules) => lark += rules,
                Arguments::Schema(schema) => {
                    lark += &format!("args{i}: @schema{i}\n");
                    parts.push(Part { name: format!("schema{i}"), body: Body::Schema(schema.clone()) });
                }
            }
        }
        if start.contains("@form") {
            parts.extend(form.map(|f| f.part("form")).transpose()?);
        }
        parts.insert(0, Part { name: "calls".into(), body: Body::Lark(lark) });
        grammars.compile(&Source::Parts(parts))
    };
    if calls.choice != Choice::Auto || form.is_some() {
        let rules = (format.grammar.whole)(&writer, &names, calls.parallel);
        let body = if calls.choice == Choice::Auto { "(calls | @form)" } else { "calls" };
        let start = if think.is_some() { format!("(/{SPACE}/)? {body}") } else { body.into() };
        return Ok(Some(Entry { think, grammar: Some(source(&start, &rules)?), ..Entry::default() }));
    }
    let each = |(text, at_start, rules): (String, bool, String)| {
        Ok(Trigger { text, at_start, grammar: source("calls", &rules)? })
    };
    let triggers = (format.grammar.triggers)(&writer, &names, calls.parallel).into_iter().map(each);
    Ok(Some(Entry { think, triggers: triggers.collect::<Result<_, Refusal>>()?, ..Entry::default() }))
}

/// Whether rules name the arguments of a tool.
fn uses(rules: &str, i: usize) -> bool {
    let name = format!("args{i}");
    rules
        .match_indices(&name)
        .any(|(at, _)| !rules[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// How the arguments of a tool are enforced.
enum Arguments {
    Schema(Value),
    /// Rules, of which one is named `args` and the number.
    Rules(String),
}

impl Arguments {
    fn new(
        grammars: &Grammars,
        writer: &Writer,
        format: &Format,
        i: usize,
        tool: &Tool,
    ) -> Result<Arguments, Refusal> {
        let make = |schema: &Value| match format.grammar.json {
            true => grammars
                .compile(&Source::JsonSchema(schema.clone()))
                .map(|_| Arguments::Schema(schema.clone())),
            false => native::rules(writer, format, schema, &format!("args{i}")).map(Arguments::Rules),
        };
        match make(&tool.schema()) {
            Err(why) if tool.strict || why.busy => Err(Refusal {
                message: format!("the tool {:?} cannot be strict: {}", tool.name, why.message),
                ..why
            }),
            Err(_) => make(&json!({"type": "object"})),
            made => made,
        }
    }
}
