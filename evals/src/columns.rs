//! Which column holds what, and a record as a question.

use std::path::Path;

use serde_json::Value;

use crate::hash::Rng;
use crate::question::{LETTERS, Question};
use crate::records::{self, Record};
use crate::{Error, Result};

/// How the answer's column names the right option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// By its number; the first has this one.
    Index(i64),
    /// By its letter, A for the first.
    Letter,
    /// By its label, where options come with labels.
    Label,
    /// By its text.
    Text,
    /// As "option3", the first being option1.
    OptionNumber,
    /// The first option is right, and all are then put in an order that follows from the question's text.
    First,
    /// By what the value looks like: a number counts from 0, a letter alone is one, anything else is text.
    Guess,
}

/// Which column holds what. A column may be given as a path of keys joined by dots, as `context.contexts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// A name of the question.
    pub id: Option<String>,
    /// What is asked.
    pub question: String,
    /// Where a text in the question's column is cut off: some repeat the options there.
    pub cut_at: Option<String>,
    /// One column that holds all options (a list, an object by letter, an object of `text` and `label`, or JSON of
    /// these as text), or one column each.
    pub options: Vec<String>,
    /// Options that are the same for every question, in place of columns.
    pub fixed: Vec<String>,
    /// The right answer.
    pub answer: String,
    /// How it names it.
    pub kind: AnswerKind,
    /// A text that the question is about.
    pub context: Option<String>,
    /// What scores are also counted under.
    pub subject: Option<String>,
    /// Records whose column has another value than one of these are left out.
    pub only: Vec<(String, Vec<String>)>,
    /// Whether CSV files have the columns' names in their first line.
    pub header: bool,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            id: None,
            question: "question".to_owned(),
            cut_at: None,
            options: vec!["options".to_owned()],
            fixed: Vec::new(),
            answer: "answer".to_owned(),
            kind: AnswerKind::Guess,
            context: None,
            subject: None,
            only: Vec::new(),
            header: true,
        }
    }
}

impl Columns {
    /// Reads `question=stem,options=a+b+c+d,answer=key:letter,subject=topic`. Keys: id, question, options (a column, or
    /// several joined by +; `options=` for open questions), fixed (options joined by +), answer (behind a colon: index0,
    /// index1, letter, label, text, option, first), context, subject, only (COLUMN:VALUE+VALUE), header (yes or no).
    ///
    /// # Errors
    /// A key that is not one of these.
    pub fn parse(text: &str) -> Result<Columns> {
        let mut columns = Columns::default();
        let list =
            |v: &str| v.split('+').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<String>>();
        let mut given = Vec::new();
        for part in text.split(',').filter(|p| !p.trim().is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            // Conditions add up; of two other columns one would be left unread.
            if key.trim() != "only" && given.contains(&key.trim()) {
                return Err(Error::input(format!("--columns says twice what \"{}\" is", key.trim())));
            }
            given.push(key.trim());
            let value = value.trim();
            match key.trim() {
                "id" => columns.id = Some(value.to_owned()),
                "question" => columns.question = value.to_owned(),
                "options" => columns.options = list(value),
                "fixed" => (columns.fixed, columns.options) = (list(value), Vec::new()),
                "context" => columns.context = Some(value.to_owned()),
                "subject" => columns.subject = Some(value.to_owned()),
                "header" => columns.header = value != "no",
                "answer" => {
                    let (column, kind) = value.split_once(':').unwrap_or((value, "guess"));
                    columns.answer = column.to_owned();
                    columns.kind = match kind {
                        "index0" => AnswerKind::Index(0),
                        "index1" => AnswerKind::Index(1),
                        "letter" => AnswerKind::Letter,
                        "label" => AnswerKind::Label,
                        "text" => AnswerKind::Text,
                        "option" => AnswerKind::OptionNumber,
                        "first" => AnswerKind::First,
                        "guess" => AnswerKind::Guess,
                        _ => {
                            return Err(Error::input(format!(
                                "--columns answer={value}: behind the colon goes index0, index1, letter, label, \
                                 text, option or first"
                            )));
                        }
                    };
                }
                "only" => {
                    let (column, values) = value
                        .split_once(':')
                        .ok_or_else(|| Error::input(format!("--columns only={value}: give COLUMN:VALUE")))?;
                    columns.only.push((column.to_owned(), list(values)));
                }
                other => {
                    return Err(Error::input(format!(
                        "--columns has no \"{other}\"; known: id, question, options, fixed, answer, context, \
                         subject, only, header"
                    )));
                }
            }
        }
        Ok(columns)
    }

    /// The columns' names, for a person.
    pub fn describe(&self) -> String {
        let mut all: Vec<String> = self.id.iter().cloned().collect();
        all.push(self.question.clone());
        all.extend(self.context.iter().cloned());
        all.extend(self.options.iter().cloned());
        all.push(self.answer.clone());
        all.extend(self.subject.iter().cloned());
        all.extend(self.only.iter().map(|(c, v)| format!("{c} ({})", v.join(" or "))));
        all.join(", ")
    }

    /// The questions of a file, and how many records it has: those that [`Columns::only`] leaves out and those with
    /// several right options are not asked. `subject` is for questions whose file says none.
    ///
    /// # Errors
    /// A column that is missing, with what there is; an answer that names no option; an empty question.
    pub fn read(&self, path: &Path, subject: &str) -> Result<(Vec<Question>, usize)> {
        let mut questions = Vec::new();
        let mut seen = 0;
        records::read(path, self.header, &mut |place, record| {
            seen += 1;
            let wrong =
                |what: String| Error::Row { file: path.display().to_string(), place: place.to_owned(), what };
            if let Some(mut q) = self.question(&record).map_err(wrong)? {
                if q.subject.is_empty() {
                    subject.clone_into(&mut q.subject);
                }
                questions.push(q);
            }
            Ok(())
        })?;
        if questions.is_empty() {
            let why: Vec<String> =
                self.only.iter().map(|(c, v)| format!("{c} is one of {}", v.join(", "))).collect();
            let what = format!("none of its {seen} records is asked ({})", why.join(" and "));
            return Err(Error::file(path, what));
        }
        Ok((questions, seen))
    }

    /// A record as a question; `None` where it is left out.
    fn question(&self, record: &Record) -> std::result::Result<Option<Question>, String> {
        for (column, values) in &self.only {
            let have = plain(find(record, column)?).unwrap_or_default();
            if !values.contains(&have) {
                return Ok(None);
            }
        }
        let mut text = plain(find(record, &self.question)?).unwrap_or_default();
        if let Some(cut) = &self.cut_at
            && let Some(at) = text.find(cut.as_str())
        {
            text.truncate(at);
        }
        let text = text.trim().to_owned();
        if text.is_empty() {
            return Err(format!("column \"{}\" is empty", self.question));
        }
        let optional = |column: &Option<String>| match column {
            Some(c) => find(record, c).map(plain),
            None => Ok(None),
        };
        let several = || plain(find(record, &self.answer).ok()?).map(|a| a.contains(','));
        if self.kind == AnswerKind::OptionNumber && several() == Some(true) {
            return Ok(None);
        }
        let (options, labels) = self.options(record)?;
        let open = self.options.is_empty() && self.fixed.is_empty();
        let mut q = Question {
            id: optional(&self.id)?.unwrap_or_default(),
            subject: optional(&self.subject)?.unwrap_or_default(),
            context: optional(&self.context)?.map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()),
            text,
            right: 0,
            answer: String::new(),
            options,
        };
        if open {
            q.answer = plain(find(record, &self.answer)?).unwrap_or_default().trim().to_owned();
            if q.answer.is_empty() {
                return Err(format!("column \"{}\" is empty", self.answer));
            }
        } else {
            q.right = self.right(record, &q.options, &labels)?;
            if self.kind == AnswerKind::First {
                let right = q.options[0].clone();
                Rng::new(crate::hash::hash(q.text.as_bytes())).shuffle(&mut q.options);
                q.right = q.options.iter().position(|o| *o == right).unwrap_or(0);
            }
            q.answer = q.options[q.right].clone();
        }
        if q.id.is_empty() {
            q.id = q.fingerprint();
        }
        Ok(Some(q))
    }

    /// The options with their labels, if they have any.
    fn options(&self, record: &Record) -> std::result::Result<(Vec<String>, Vec<String>), String> {
        let (mut options, mut labels) = match self.options.as_slice() {
            [] => (self.fixed.clone(), Vec::new()),
            [one] => unpack(one, find(record, one)?)?,
            several => {
                let each = |c: &String| Ok(plain(find(record, c)?).unwrap_or_default());
                (several.iter().map(each).collect::<std::result::Result<_, String>>()?, Vec::new())
            }
        };
        // Sets pad at the end where a question has fewer options than others.
        while options.last().is_some_and(|o| ["", "N/A", "nan"].contains(&o.trim())) && options.len() > 2 {
            options.pop();
        }
        labels.truncate(options.len());
        let empty = options.iter().position(|o| o.trim().is_empty());
        match (options.len(), empty) {
            (0, _) if self.options.is_empty() => Ok((options, labels)),
            (0 | 1, _) => Err(format!("has {} options, where two are the fewest", options.len())),
            (n, _) if n > LETTERS.len() => {
                Err(format!("has {n} options, where {} are the most", LETTERS.len()))
            }
            (_, Some(i)) => Err(format!("option {} is empty", LETTERS[i])),
            _ => Ok((options.iter().map(|o| o.trim().to_owned()).collect(), labels)),
        }
    }

    /// Which option is right.
    fn right(
        &self,
        record: &Record,
        options: &[String],
        labels: &[String],
    ) -> std::result::Result<usize, String> {
        if self.kind == AnswerKind::First {
            return Ok(0);
        }
        let column = &self.answer;
        let value = find(record, column)?;
        let text = plain(value).map(|t| t.trim().to_owned()).unwrap_or_default();
        if text.is_empty() {
            return Err(format!("column \"{column}\" is empty: no right answer is given"));
        }
        let last = LETTERS[options.len() - 1];
        let number = |first: i64| {
            let n = text.parse::<f64>().ok().filter(|n| n.fract() == 0.0).map(|n| n as i64 - first);
            let n = n.and_then(|n| usize::try_from(n).ok()).filter(|n| *n < options.len());
            n.ok_or_else(|| {
                let most = first + options.len() as i64 - 1;
                format!("column \"{column}\" is {text}, where {first} to {most} name an option")
            })
        };
        let letter = || {
            let mut chars = text.chars();
            let c = chars.next().map(|c| c.to_ascii_uppercase()).filter(|_| chars.next().is_none());
            c.and_then(|c| LETTERS[..options.len()].iter().position(|l| *l == c))
                .ok_or_else(|| format!("column \"{column}\" is \"{text}\", where A to {last} name an option"))
        };
        let same = |list: &[String], what: &str| {
            let at = list.iter().position(|o| o.eq_ignore_ascii_case(&text));
            at.ok_or_else(|| format!("column \"{column}\" is \"{text}\", which is no {what} of the question"))
        };
        // Where options come by name, one that is left out moves the others.
        let gaps = |name: &dyn Fn(usize) -> String, of_kind: &dyn Fn(&str) -> bool| {
            labels.iter().enumerate().any(|(i, l)| *l != name(i)) && labels.iter().all(|l| of_kind(l))
        };
        let is_letter = |l: &str| l.len() == 1 && l.starts_with(|c: char| c.is_ascii_alphabetic());
        match self.kind {
            AnswerKind::Index(first) => number(first),
            AnswerKind::Letter if gaps(&|i| LETTERS[i].to_string(), &is_letter) => {
                same(labels, "option's letter")
            }
            AnswerKind::Letter => letter(),
            AnswerKind::Label => same(labels, "label"),
            AnswerKind::Text => same(options, "option"),
            AnswerKind::OptionNumber
                if gaps(&|i| format!("option{}", i + 1), &|l| l.starts_with("option")) =>
            {
                same(labels, "option's name")
            }
            AnswerKind::OptionNumber => {
                let n = text.strip_prefix("option").and_then(|n| n.parse::<usize>().ok());
                let n = n.filter(|n| (1..=options.len()).contains(n)).map(|n| n - 1);
                n.ok_or_else(|| {
                    format!(
                        "column \"{column}\" is \"{text}\", where option1 to option{} name an option",
                        options.len()
                    )
                })
            }
            AnswerKind::First => Ok(0),
            AnswerKind::Guess if !labels.is_empty() => {
                same(labels, "label").or_else(|label| same(options, "option").map_err(|_| label))
            }
            AnswerKind::Guess if value.is_number() => number(0),
            AnswerKind::Guess if text.chars().count() == 1 => letter(),
            AnswerKind::Guess => same(options, "option"),
        }
    }
}

/// A value by its path of keys.
fn find<'a>(record: &'a Record, path: &str) -> std::result::Result<&'a Value, String> {
    if let Some(value) = record.get(path) {
        return Ok(value);
    }
    let mut keys = path.split('.');
    let mut value = keys.next().and_then(|k| record.get(k));
    for key in keys {
        value = value.and_then(|v| v.get(key));
    }
    value.ok_or_else(|| {
        let have: Vec<&str> = record.keys().map(String::as_str).collect();
        format!(
            "has no column \"{path}\"; it has {}; --columns says which column holds what",
            have.join(", ")
        )
    })
}

/// A value as text; lists of texts become paragraphs. `None` for null.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        Value::Array(all) => Some(all.iter().filter_map(plain).collect::<Vec<_>>().join("\n\n")),
        other => Some(other.to_string()),
    }
}

/// The options in one column, with their labels.
fn unpack(column: &str, value: &Value) -> std::result::Result<(Vec<String>, Vec<String>), String> {
    let texts = |v: &Value| v.as_array().map(|a| a.iter().map(|o| plain(o).unwrap_or_default()).collect());
    match value {
        Value::Array(all) if all.iter().all(Value::is_object) && !all.is_empty() => {
            let part = |key: &str| {
                let each = |o: &Value| o.get(key).and_then(plain);
                all.iter().map(each).collect::<Option<Vec<_>>>()
            };
            match (part("text"), part("label")) {
                (Some(options), Some(labels)) => Ok((options, labels)),
                _ => Err(format!("column \"{column}\" holds objects without \"text\" and \"label\"")),
            }
        }
        Value::Array(_) => Ok((texts(value).unwrap_or_default(), Vec::new())),
        Value::Object(map) => match (map.get("text").and_then(texts), map.get("label").and_then(texts)) {
            (Some(options), Some(labels)) if options.len() == labels.len() => Ok((options, labels)),
            (Some(_), Some(_)) => Err(format!("column \"{column}\" has not as many labels as texts")),
            _ => {
                let mut all: Vec<(&String, String)> =
                    map.iter().filter_map(|(k, v)| Some((k, plain(v)?))).collect();
                all.sort_by_key(|(k, _)| (k.len(), (*k).clone()));
                let (labels, options) =
                    all.into_iter().map(|(k, v)| (k.clone(), v)).unzip::<_, _, Vec<_>, Vec<_>>();
                Ok((options, labels))
            }
        },
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
            match serde_json::from_str(text) {
                Ok(value @ (Value::Array(_) | Value::Object(_))) => unpack(column, &value),
                _ => Err(format!("column \"{column}\" is a text that should be JSON and is not")),
            }
        }
        Value::Null => Err(format!("column \"{column}\" is empty")),
        _ => Err(format!("column \"{column}\" holds no list of options")),
    }
}
