//! Compiles grammars on threads of their own, with a deep stack and a deadline.

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{InferenceCapabilities, TokEnv};
use weft_formats::tokenizer::Tokenizer;

use super::vocabulary::Vocabulary;
use super::{Body, Part, Refusal, Source, limits, schema};

/// The longest that a compilation may take. Its own limits end it much sooner, so this is for what they miss.
const DEADLINE: Duration = Duration::from_secs(10);
/// Compilations at the same time, those past their deadline included.
const THREADS: usize = 4;
const STACK: usize = 256 << 20;
/// Bytes that a token adds at most, as far as bounds look ahead.
pub(super) const LONGEST_STEP: u32 = 256;

/// A grammar that is ready for use. Each use works on a copy.
pub struct Compiled {
    matcher: Matcher,
    pub(super) vocabulary: Arc<Vocabulary>,
    json: bool,
    bytes: usize,
}

impl Compiled {
    pub(super) fn matcher(&self) -> Matcher {
        self.matcher.deep_clone()
    }

    /// Whether bounds of JSON hold in it.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// What it takes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

pub(super) struct Compiler {
    factory: Arc<ParserFactory>,
    vocabulary: Arc<Vocabulary>,
    running: Arc<(Mutex<usize>, Condvar)>,
}

impl Compiler {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Compiler, Refusal> {
        let vocabulary = Arc::new(Vocabulary::new(tokenizer)?);
        let env: TokEnv = vocabulary.clone();
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices).map_err(|e| {
                Refusal::new(format!("the vocabulary cannot be used with grammars: {}", first_line(&e)))
            })?;
        factory.quiet();
        *factory.limits_mut() =
            ParserLimits { verbose_errors: false, max_lexer_states: 100_000, ..ParserLimits::default() };
        Ok(Compiler { factory: Arc::new(factory), vocabulary, running: Arc::default() })
    }

    pub(super) fn vocabulary(&self) -> Arc<Vocabulary> {
        self.vocabulary.clone()
    }

    /// # Errors
    /// What cannot be enforced, or which limit is passed.
    pub(super) fn compile(&self, source: &Source) -> Result<Compiled, Refusal> {
        let (count, changed) = &*self.running;
        let guard = count.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut guard, waited) = changed
            .wait_timeout_while(guard, DEADLINE, |n| *n >= THREADS)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let message = "too many grammars are being compiled; ask again in a few seconds";
            return Err(Refusal { busy: true, ..Refusal::new(message) });
        }
        *guard += 1;
        drop(guard);
        let (send, receive) = mpsc::channel();
        let (factory, source, place) = (self.factory.clone(), source.clone(), Place(self.running.clone()));
        let job = move || {
            let result = compile(&factory, &source);
            drop(place);
            drop(send.send(result));
        };
        let thread = std::thread::Builder::new().name("weft-grammar".into()).stack_size(STACK);
        thread
            .spawn(job)
            .map_err(|e| Refusal::new(format!("no thread can be started to compile the grammar: {e}")))?;
        let (matcher, json, bytes) = receive.recv_timeout(DEADLINE).map_err(|why| match why {
            mpsc::RecvTimeoutError::Timeout => Refusal::new(format!(
                "the grammar takes longer than {} seconds to compile",
                DEADLINE.as_secs()
            )),
            mpsc::RecvTimeoutError::Disconnected => Refusal::new("the grammar cannot be compiled"),
        })??;
        Ok(Compiled { matcher, vocabulary: self.vocabulary.clone(), json, bytes })
    }
}

/// One of the compilations at the same time; it is given back even if the compiler panics.
struct Place(Arc<(Mutex<usize>, Condvar)>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.1.notify_one();
    }
}

fn compile(factory: &ParserFactory, source: &Source) -> Result<(Matcher, bool, usize), Refusal> {
    let started = Instant::now();
    let grammar = |g| TopLevelGrammar::from_grammar(g);
    let mut schemas = Vec::new();
    let mut json = |schema: &Value| {
        let read = schema::normalise(schema)?;
        schemas.push(read.clone());
        Ok::<_, Refusal>(read)
    };
    let (top, is_json) = match source {
        Source::JsonObject => {
            (grammar(GrammarWithLexer::from_json_schema(serde_json::json!({"type": "object"}))), true)
        }
        Source::JsonSchema(schema) => (grammar(GrammarWithLexer::from_json_schema(json(schema)?)), true),
        Source::Regex(_) | Source::Gbnf(_) | Source::Lark(_) => {
            (grammar(GrammarWithLexer::from_lark(limits::as_lark(source)?)), false)
        }
        Source::Parts(parts) => {
            let each = |part: &Part| {
                let body = match &part.body {
                    Body::Lark(text) => GrammarWithLexer::from_lark(text.clone()),
                    Body::Schema(schema) => GrammarWithLexer::from_json_schema(json(schema)?),
                };
                Ok(GrammarWithLexer { name: Some(part.name.clone()), ..body })
            };
            let grammars = parts.iter().map(each).collect::<Result<Vec<_>, Refusal>>()?;
            let is_json = parts.iter().any(|p| matches!(p.body, Body::Schema(_)));
            (TopLevelGrammar { grammars, max_tokens: None }, is_json)
        }
    };
    let mut matcher = Matcher::new(factory.create_parser(top));
    // The first mask also finds grammars that have no text at all, and fills the lexer's tables for all copies.
    let first = matcher.compute_mask();
    if let Some(e) = matcher.get_error().or_else(|| first.err().map(|e| e.to_string())) {
        return Err(explain(factory, &e, &schemas, started));
    }
    let bytes = source_bytes(source) * 64 + (256 << 10);
    Ok((matcher, is_json, bytes))
}

fn source_bytes(source: &Source) -> usize {
    match source {
        Source::JsonObject => 0,
        Source::JsonSchema(schema) => schema.to_string().len(),
        Source::Regex(t) | Source::Gbnf(t) | Source::Lark(t) => t.len(),
        Source::Parts(parts) => parts
            .iter()
            .map(|p| match &p.body {
                Body::Lark(t) => t.len(),
                Body::Schema(s) => s.to_string().len(),
            })
            .sum(),
    }
}

/// What is wrong, with the place in the schema if that can be found in time.
fn explain(factory: &ParserFactory, error: &str, schemas: &[Value], started: Instant) -> Refusal {
    let cause = first_line(&error);
    for schema in schemas {
        let definitions = schema.get("$defs").cloned();
        if fault(factory, schema, definitions.as_ref()).is_none() {
            continue;
        }
        let (path, at) = deepest(factory, schema, definitions.as_ref(), started);
        let cause = fault(factory, at, definitions.as_ref()).unwrap_or_else(|| cause.clone());
        let keyword = blame(&cause, at);
        let cause = plain(&cause);
        return match keyword {
            Some(keyword) => Refusal::keyword(
                &keyword,
                &format!("{path}/{keyword}"),
                format!("cannot be enforced: {cause}"),
            ),
            None => Refusal {
                path: Some(path.clone()),
                ..Refusal::new(format!("the schema at {path} cannot be enforced: {cause}"))
            },
        };
    }
    Refusal::new(format!("the grammar cannot be enforced: {cause}"))
}

/// Why a schema does not compile on its own.
fn fault(factory: &ParserFactory, schema: &Value, definitions: Option<&Value>) -> Option<String> {
    let mut schema = schema.clone();
    if let (Value::Object(map), Some(definitions)) = (&mut schema, definitions) {
        map.insert("$defs".into(), definitions.clone());
    }
    let mut matcher = Matcher::new(factory.create_parser(TopLevelGrammar::from_json_schema(schema)));
    let first = matcher.compute_mask();
    matcher.get_error().or_else(|| first.err().map(|e| e.to_string())).map(|e| first_line(&e))
}

/// The innermost schema that does not compile on its own.
fn deepest<'s>(
    factory: &ParserFactory,
    root: &'s Value,
    definitions: Option<&Value>,
    started: Instant,
) -> (String, &'s Value) {
    let (mut path, mut at) = ("#".to_owned(), root);
    'down: loop {
        for (place, child) in schema::children(at) {
            if started.elapsed() > DEADLINE / 2 {
                return (path, at);
            }
            if fault(factory, child, definitions).is_some() {
                path = format!("{path}/{place}");
                at = child;
                continue 'down;
            }
        }
        return (path, at);
    }
}

/// The keyword of a schema that a message is about.
fn blame(message: &str, schema: &Value) -> Option<String> {
    let map = schema.as_object()?;
    let named = map.keys().filter(|k| message.contains(k.as_str())).max_by_key(|k| k.len());
    let regex = || (message.contains("egex") && map.contains_key("pattern")).then(|| "pattern".to_owned());
    let one_of = || (map.len() == 1).then(|| map.keys().next().cloned()).flatten();
    named.cloned().or_else(regex).or_else(one_of)
}

/// The compiler's own words for what happens often, said for callers.
fn plain(cause: &str) -> String {
    if cause.starts_with("oneOf constraints") {
        return "its alternatives cannot be told apart before the answer is whole; anyOf can be enforced"
            .into();
    }
    match cause.strip_prefix("Unsatisfiable schema: ") {
        Some(why) => format!("no value is valid under it ({why})"),
        None => cause.to_owned(),
    }
}

/// The first line of a message, short.
fn first_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no reason was given");
    line.chars().take(300).collect()
}
