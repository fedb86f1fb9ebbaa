//! Conversations at random, as models of each format write them.

use serde_json::{Value, json};

use crate::grammar::tests::Dice;

pub(super) const NAMES: &[&str] = &["search", "get_weather", "f"];

pub(super) struct Conversation {
    pub(super) reasoning: Option<String>,
    /// Whether the prompt opened the thought.
    opened: bool,
    pub(super) content: String,
    /// Names and arguments.
    pub(super) calls: Vec<(String, String)>,
}

fn pick<'w>(dice: &mut Dice, words: &[&'w str]) -> &'w str {
    words[dice.roll(words.len())]
}

fn prose(dice: &mut Dice) -> String {
    let words = [
        "Well",
        "caf\u{e9}",
        "x < y",
        "{a}",
        "\"",
        "the \u{1f600}",
        "[1]",
        "</tool",
        "tool_call",
        "a\n\nb",
        "<",
        "<|",
        "1.",
        "`x`",
    ];
    let n = 1 + dice.roll(8);
    let text: Vec<&str> = (0..n).map(|_| pick(dice, &words)).collect();
    format!("So {}.", text.join(" "))
}

fn value(dice: &mut Dice, deep: usize) -> Value {
    match dice.roll(if deep == 0 { 6 } else { 9 }) {
        0 => json!(dice.roll(1000) as i64 - 500),
        1 => json!(dice.roll(1000) as f64 / 8.0),
        2 => json!(dice.roll(2) == 0),
        3 => Value::Null,
        4 | 5 => {
            let words = [
                "a",
                "Z\u{fc}rich",
                "\"q\"",
                "\\",
                "</tool_call>",
                "<think>",
                "{",
                "}]",
                "[TOOL_CALLS]",
                "\n",
                "\u{1f600}",
                "<|",
                "",
                "[ARGS]",
                "```",
            ];
            let n = dice.roll(4);
            Value::String((0..n).map(|_| pick(dice, &words)).collect())
        }
        6 => Value::Array((0..dice.roll(4)).map(|_| value(dice, deep - 1)).collect()),
        _ => object(dice, deep - 1),
    }
}

fn object(dice: &mut Dice, deep: usize) -> Value {
    let keys = ["q", "city", "n", "a_b", "List"];
    let n = dice.roll(4);
    Value::Object((0..n).map(|_| (pick(dice, &keys).to_owned(), value(dice, deep))).collect())
}

/// A value in Gemma's notation.
fn native(value: &Value, quote: &str) -> String {
    match value {
        Value::String(text) => format!("{quote}{text}{quote}"),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(|v| native(v, quote)).collect::<Vec<_>>().join(","))
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", native(v, quote))).collect();
            format!("{{{}}}", pairs.join(","))
        }
        other => other.to_string(),
    }
}

impl Conversation {
    pub(super) fn roll(format: &str, dice: &mut Dice) -> Conversation {
        let reasoning = (dice.roll(2) == 0).then(|| prose(dice));
        let opened = dice.roll(2) == 0;
        let most = if format == "generic" { 2 } else { 4 };
        let n = dice.roll(most);
        let mut content = if dice.roll(3) > 0 || n == 0 { prose(dice) } else { String::new() };
        if n > 0 && matches!(format, "llama" | "generic") {
            content.clear();
        }
        let calls = (0..n).map(|_| {
            let arguments = object(dice, 3);
            let spaced = dice.roll(2) == 0 && !format.contains("gemma");
            let text = if spaced {
                serde_json::to_string_pretty(&arguments)
            } else {
                serde_json::to_string(&arguments)
            };
            (pick(dice, NAMES).to_owned(), text.expect("JSON"))
        });
        let calls = calls.collect();
        Conversation { reasoning, opened, content, calls }
    }

    /// Whether thoughts are looked for, and if the prompt opened one.
    pub(super) fn opens(&self) -> Option<bool> {
        self.reasoning.as_ref().map(|_| self.opened)
    }

    pub(super) fn text(&self, format: &str, dice: &mut Dice) -> String {
        let mut text = String::new();
        if let Some(reasoning) = &self.reasoning {
            if !self.opened {
                text += "<think>\n";
            }
            text += &format!("{reasoning}\n</think>\n\n");
        }
        text += &self.content;
        if self.calls.is_empty() {
            return text;
        }
        if !self.content.is_empty() {
            text += pick(dice, &["", "\n", "\n\n"]);
        }
        let object = |key: &str, dice: &mut Dice| {
            let all = self.calls.iter().map(|(name, arguments)| match dice.roll(3) {
                0 => format!("{{\"{key}\": {arguments}, \"name\": \"{name}\"}}"),
                1 => format!("{{\"name\":\"{name}\",\"{key}\":{arguments}}}"),
                _ => format!("{{\"name\": \"{name}\", \"{key}\": {arguments}}}"),
            });
            all.collect::<Vec<_>>()
        };
        let natively = |open: &str, quote: &str, close: &str| {
            let all = self.calls.iter().map(|(name, arguments)| {
                let value = serde_json::from_str(arguments).expect("JSON");
                format!("{open}call:{name}{}{close}", native(&value, quote))
            });
            all.collect::<String>()
        };
        text += &match format {
            "hermes" => {
                let gap = pick(dice, &["\n", ""]);
                let all = object("arguments", dice);
                all.iter()
                    .map(|o| format!("<tool_call>{gap}{o}{gap}</tool_call>"))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            "llama" => object("parameters", dice).join("; "),
            "mistral-list" => format!("[TOOL_CALLS][{}]", object("arguments", dice).join(", ")),
            "mistral-named" => self.calls.iter().map(|(n, a)| format!("[TOOL_CALLS]{n}[ARGS]{a}")).collect(),
            "gemma" => natively("<|tool_call>", "<|\"|>", "<tool_call|>"),
            "function-gemma" => natively("<start_function_call>", "<escape>", "<end_function_call>"),
            _ => object("arguments", dice).join(""),
        };
        text
    }

    /// The text with something cut out, put in or cut off.
    pub(super) fn broken(&self, format: &str, dice: &mut Dice) -> String {
        let mut letters: Vec<char> = self.text(format, dice).chars().collect();
        for _ in 0..1 + dice.roll(3) {
            let at = dice.roll(letters.len() + 1);
            match dice.roll(3) {
                0 => letters.truncate(at),
                1 => drop(letters.drain(at..letters.len().min(at + 1 + dice.roll(5)))),
                _ => {
                    let words = [
                        "<tool_call>",
                        "{",
                        "\"",
                        "}",
                        "</think>",
                        "[TOOL_CALLS]",
                        " \n",
                        "<|tool_call>",
                        "name",
                        ",",
                    ];
                    let word = pick(dice, &words);
                    letters.splice(at..at, word.chars());
                }
            }
        }
        letters.into_iter().collect()
    }
}
