//! Reading an object strictly: each field is taken by name and checked, and what nobody took is refused.

use serde_json::{Map, Value};

use crate::error::{ApiError, Result};

/// The fields of a JSON object that were not taken yet.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where the object is in the request, `""` for the request itself, else with a dot at its end.
    at: String,
    asked: Vec<&'static str>,
    /// Names that are taken without effect.
    others: Vec<&'static str>,
}

/// Names of fields in other servers' APIs, or in another one of this server's, and the names that may be served here.
const ELSEWHERE: [(&str, &str); 20] = [
    ("repetition_penalty", "repeat_penalty"),
    ("max_tokens", "max_output_tokens"),
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_output_tokens", "max_tokens"),
    ("max_new_tokens", "max_tokens"),
    ("max_length", "max_tokens"),
    ("num_predict", "max_tokens"),
    ("n_predict", "max_tokens"),
    ("n_predict", "num_predict"),
    ("stop_sequences", "stop"),
    ("messages", "input"),
    ("messages", "prompt"),
    ("input", "messages"),
    ("input", "prompt"),
    ("prompt", "messages"),
    ("prompt", "content"),
    ("text", "content"),
    ("response_format", "text"),
    ("response_format", "format"),
];

/// Values of fields that are not served which say what is done anyway.
const NOTHING: [(&str, &str); 11] = [
    ("mirostat", "0"),
    ("tfs_z", "1"),
    ("n_probs", "0"),
    ("xtc_probability", "0"),
    ("dynatemp_range", "0"),
    ("min_tokens", "0"),
    ("length_penalty", "1"),
    ("id_slot", "-1"),
    ("use_beam_search", "false"),
    ("penalize_newline", "true"),
    ("shift", "false"),
];

/// What fields that change nothing are all the same: another type is a mistake of whoever asks.
const TYPES: [(&str, &str); 10] = [
    ("user", "a string"),
    ("safety_identifier", "a string"),
    ("service_tier", "a string"),
    ("prompt_cache_key", "a string"),
    ("prompt_cache_retention", "a string"),
    ("inference_geo", "a string"),
    ("metadata", "an object"),
    ("cache_control", "an object"),
    ("store", "a boolean"),
    ("cache_prompt", "a boolean"),
];

/// Whether a field that is not served asks for nothing by this value.
fn asks_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        other => NOTHING.iter().filter(|n| n.0 == name).any(|(_, nothing)| match other.as_f64() {
            Some(x) => nothing.parse() == Ok(x),
            None => other.as_bool().is_some_and(|on| nothing.parse() == Ok(on)),
        }),
    }
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Fields {
    /// The fields of the body of a request.
    pub(crate) fn body(value: Value) -> Result<Fields> {
        match value {
            Value::Object(map) => {
                Ok(Fields { map, at: String::new(), asked: Vec::new(), others: Vec::new() })
            }
            other => {
                let line = format!("the body must be a JSON object, not {}", kind(&other));
                Err(ApiError::bad("invalid_json", line))
            }
        }
    }

    /// The fields of an object inside of the request, at `at`, such as `messages[0]`.
    pub(crate) fn inner(value: Value, at: &str) -> Result<Fields> {
        match value {
            Value::Object(map) => {
                Ok(Fields { map, at: format!("{at}."), asked: Vec::new(), others: Vec::new() })
            }
            other => Err(wrong(at, "an object", &other)),
        }
    }

    /// The path of a field of this object.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.at)
    }

    /// Takes a field; null counts as not given.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        self.map.remove(name).filter(|v| !v.is_null())
    }

    /// Whether a field has this value; it is not taken.
    pub(crate) fn is(&self, name: &str, value: &Value) -> bool {
        self.map.get(name) == Some(value)
    }

    /// All fields, for a reader of their own.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// Takes a field that must be there.
    pub(crate) fn need(&mut self, name: &'static str) -> Result<Value> {
        let path = self.path(name);
        self.take(name).ok_or_else(|| missing(&path))
    }

    /// A number in a range.
    pub(crate) fn number(&mut self, name: &'static str, least: f64, most: f64) -> Result<Option<f32>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        match value.as_f64() {
            Some(x) if (least..=most).contains(&x) => Ok(Some(x as f32)),
            Some(_) => Err(ApiError::value(
                &path,
                format!("\"{path}\" must be from {least} to {most}, not {}", short(&value)),
            )),
            None => Err(wrong(&path, "a number", &value)),
        }
    }

    /// A whole number in a range.
    pub(crate) fn whole(&mut self, name: &'static str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        match value.as_u64() {
            Some(n) if (least..=most).contains(&n) => Ok(Some(n)),
            _ if value.is_number() => Err(ApiError::value(
                &path,
                format!("\"{path}\" must be a whole number from {least} to {most}, not {}", short(&value)),
            )),
            _ => Err(wrong(&path, "a whole number", &value)),
        }
    }

    /// A whole number up to `most`, of which 0 and -1 both mean all, as llama.cpp and vLLM have it.
    pub(crate) fn whole_or_all(&mut self, name: &'static str, most: u64) -> Result<Option<u64>> {
        match self.is(name, &Value::from(-1)) {
            true => Ok(self.take(name).map(|_| 0)),
            false => self.whole(name, 0, most),
        }
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong(&self.path(name), "true or false", &value))
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.path(name), "a string", &other)),
        }
    }

    /// A text that must be there.
    pub(crate) fn need_text(&mut self, name: &'static str) -> Result<String> {
        self.text(name)?.ok_or_else(|| missing(&self.path(name)))
    }

    /// One of a few words.
    pub(crate) fn choice(
        &mut self,
        name: &'static str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        words.iter().find(|w| **w == text).copied().map(Some).ok_or_else(|| {
            let path = self.path(name);
            let line = format!("\"{path}\" must be one of {}, not {}", words.join(", "), short(&text.into()));
            ApiError::bad("unsupported_value", line).at(path)
        })
    }

    /// An array, of at most so many.
    pub(crate) fn list(&mut self, name: &'static str, most: usize) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(all)) if all.len() <= most => Ok(Some(all)),
            Some(Value::Array(all)) => {
                let path = self.path(name);
                let line = format!("\"{path}\" has {} entries; at most {most} are taken", all.len());
                Err(ApiError::value(path, line))
            }
            Some(other) => Err(wrong(&self.path(name), "an array", &other)),
        }
    }

    /// An object inside.
    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<Fields>> {
        let path = self.path(name);
        self.take(name).map(|value| Fields::inner(value, &path)).transpose()
    }

    /// Takes fields that are documented elsewhere and change nothing here, and refuses those of another type than
    /// documented.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) -> Result<()> {
        for name in names {
            let Some(value) = self.map.remove(*name).filter(|v| !v.is_null()) else { continue };
            let wanted = TYPES.iter().find(|(n, _)| n == name).map(|(_, wanted)| *wanted);
            if let Some(wanted) = wanted.filter(|w| *w != kind(&value)) {
                let wanted = if wanted == "a boolean" { "true or false" } else { wanted };
                return Err(wrong(&self.path(name), wanted, &value));
            }
        }
        self.others.extend(names);
        Ok(())
    }

    /// Refuses fields that are documented elsewhere and not served here, each with why. A value that asks for nothing is
    /// let through: clients write fields out that their users left alone.
    pub(crate) fn refuse(&mut self, names: &[(&'static str, &str)]) -> Result<()> {
        for (name, why) in names {
            if self.map.remove(*name).is_some_and(|v| !asks_nothing(name, &v)) {
                let path = self.path(name);
                return Err(ApiError::unsupported(&path, format!("\"{path}\" is not supported: {why}")));
            }
        }
        Ok(())
    }

    /// Refuses what was not taken; a lenient server passes it on to `ignored` in place of that.
    pub(crate) fn finish(self, ignored: Option<&mut Vec<String>>) -> Result<()> {
        // Clients send null for what was not given, by whatever name.
        let Some(name) = self.map.iter().find(|(_, v)| !v.is_null()).map(|(name, _)| name) else {
            return Ok(());
        };
        if let Some(ignored) = ignored {
            ignored.extend(self.map.keys().map(|name| self.path(name)));
            return Ok(());
        }
        let path = self.path(name);
        let other = || {
            let meant = ELSEWHERE.iter().filter(|(theirs, _)| theirs == name);
            meant.map(|(_, ours)| *ours).find(|ours| self.asked.contains(ours))
        };
        let all = [&self.asked[..], &self.others[..]].concat();
        let hint = match other().or_else(|| nearest(name, &all)) {
            Some(known) => format!("; did you mean \"{known}\"?"),
            None => format!("; known here: {}", self.asked.join(", ")),
        };
        Err(ApiError::bad("unknown_parameter", format!("\"{}\" is not known{hint}", clip(&path))).at(path))
    }
}

/// 400 for a field that is not there.
pub(crate) fn missing(path: &str) -> ApiError {
    ApiError::bad("missing_required_parameter", format!("\"{path}\" is missing")).at(path)
}

/// 400 for a value of another type.
pub(crate) fn wrong(path: &str, wanted: &str, value: &Value) -> ApiError {
    let given = if value.is_number() { short(value) } else { kind(value).to_owned() };
    ApiError::bad("invalid_type", format!("\"{path}\" must be {wanted}, not {given}")).at(path)
}

/// A value in a message: what is long is cut.
pub(crate) fn short(value: &Value) -> String {
    clip(&value.to_string())
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().take(64).collect();
    let distance = |known: &str| {
        let known: Vec<char> = known.chars().collect();
        let mut row: Vec<usize> = (0..=known.len()).collect();
        for (i, a) in name.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in known.iter().enumerate() {
                let cost = diagonal + usize::from(a != b);
                diagonal = row[j + 1];
                row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row[known.len()]
    };
    let best = known.iter().map(|k| (distance(k), *k)).min_by_key(|(d, _)| *d)?;
    (best.0 <= (best.1.len() / 3).max(1)).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Fields, nearest};

    #[test]
    fn the_nearest_name_is_told() {
        let known = ["temperature", "top_p", "max_tokens"];
        assert_eq!(nearest("temprature", &known), Some("temperature"));
        assert_eq!(nearest("topP", &known), Some("top_p"));
        assert_eq!(nearest("beam_width", &known), None);
    }

    #[test]
    fn fields_are_honoured_or_refused() {
        let mut f = Fields::body(json!({ "top_p": 2, "n": 1.5, "stop": null, "temprature": 1 })).unwrap();
        let e = f.number("top_p", 0.0, 1.0).unwrap_err();
        assert_eq!(
            (e.message.as_str(), e.param.as_deref()),
            ("\"top_p\" must be from 0 to 1, not 2", Some("top_p"))
        );
        assert!(f.whole("n", 1, 8).unwrap_err().message.contains("a whole number from 1 to 8, not 1.5"));
        assert!(f.take("stop").is_none());
        assert!(f.take("temperature").is_none());
        let e = f.finish(None).unwrap_err();
        assert_eq!(e.code, "unknown_parameter");
        assert!(e.message.ends_with("did you mean \"temperature\"?"), "{}", e.message);
        let mut f = Fields::body(json!({ "seed": 1.5, "max_tokens": 3 })).unwrap();
        assert!(f.whole("seed", 0, 9).unwrap_err().message.ends_with("not 1.5"));
        // The name of another API leads to the one here, not to one that would be refused.
        f.refuse(&[("min_tokens", "set ignore_eos")]).unwrap();
        assert!(f.whole("max_output_tokens", 1, 9).unwrap().is_none());
        assert!(f.finish(None).unwrap_err().message.ends_with("did you mean \"max_output_tokens\"?"));
    }

    #[test]
    fn what_changes_nothing_still_has_a_type() {
        let read = |body| Fields::body(body).unwrap().ignore(&["user", "metadata", "store", "seen"]);
        read(json!({ "user": "a", "metadata": {}, "store": false, "seen": 5 })).unwrap();
        read(json!({ "user": null, "metadata": null })).unwrap();
        for (body, line) in [
            (json!({ "user": 5 }), "\"user\" must be a string, not 5"),
            (json!({ "metadata": [] }), "\"metadata\" must be an object, not an array"),
            (json!({ "store": "yes" }), "\"store\" must be true or false, not a string"),
        ] {
            let e = read(body).unwrap_err();
            assert_eq!((e.code, e.message.as_str()), ("invalid_type", line));
        }
    }

    #[test]
    fn what_asks_for_nothing_is_not_refused() {
        for (name, value, refused) in [
            ("suffix", json!(""), false),
            ("suffix", json!("x"), true),
            ("images", json!([]), false),
            ("images", json!(["x"]), true),
            ("mirostat", json!(0), false),
            ("mirostat", json!(2), true),
            ("tfs_z", json!(1.0), false),
            ("tfs_z", json!(0.5), true),
            ("penalize_newline", json!(true), false),
            ("penalize_newline", json!(false), true),
            ("web_search_options", json!({}), true),
        ] {
            let mut f = Fields::body(json!({ (name): value })).unwrap();
            assert_eq!(f.refuse(&[(name, "no")]).is_err(), refused, "{name}: {value}");
        }
    }
}
