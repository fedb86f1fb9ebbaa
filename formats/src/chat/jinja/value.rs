//! Values as Python has them, and what they are charged for.
//!
//! Lists and dictionaries never change once they are made (transformers renders in Jinja's immutable sandbox), so
//! no value can hold itself, but for namespaces. Those are kept by the run, which empties them at its end.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::ops::Deref;
use std::rc::Rc;

use serde_json::Value as Json;

use super::eval::Loop;
use super::{Fault, Result};

/// Most bytes that the values of a rendering may take at a time.
const MAX_LIVE: usize = 128 << 20;
/// Most work of a rendering: nodes evaluated, and 16 bytes or one item that an operation walks over.
const MAX_WORK: u64 = 20_000_000;
/// Deepest nesting of lists in lists.
const MAX_NESTING: u32 = 100;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static WORK: Cell<u64> = const { Cell::new(0) };
}

/// Starts a rendering of this thread at no cost.
pub(super) fn reset() {
    WORK.with(|w| w.set(0));
}

/// Charges for work.
pub(super) fn work(units: usize) -> Result<()> {
    WORK.with(|w| {
        let total = w.get().saturating_add(units as u64);
        w.set(total);
        if total > MAX_WORK { Err(Fault::Endless) } else { Ok(()) }
    })
}

/// Charges for walking over a text of so many bytes.
pub(super) fn walk(bytes: usize) -> Result<()> {
    work(bytes / 16 + 1)
}

/// Memory that is given back when it goes.
#[derive(Debug)]
pub(super) struct Charge(usize);

/// Asks for memory, before it is taken.
pub(super) fn charge(bytes: usize) -> Result<Charge> {
    LIVE.with(|l| {
        let total = l.get().saturating_add(bytes);
        if total > MAX_LIVE {
            return Err(Fault::Memory);
        }
        l.set(total);
        Ok(Charge(bytes))
    })
}

impl Drop for Charge {
    fn drop(&mut self) {
        LIVE.with(|l| l.set(l.get().saturating_sub(self.0)));
    }
}

/// A text, shared, and whether it is known to be HTML (Python's `Markup`).
#[derive(Debug, Clone)]
pub(super) struct Text(Rc<(String, Charge, bool)>);

impl Text {
    pub(super) fn is_html(&self) -> bool {
        self.0.2
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0.0
    }
}

/// Items, shared, and how deep they nest.
#[derive(Debug, Clone)]
pub(super) struct Items(Rc<(Vec<Value>, u32, Charge)>);

impl Deref for Items {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        &self.0.0
    }
}

/// Keys and values in order, shared, and how deep they nest.
#[derive(Debug, Clone)]
pub(super) struct Dict(Rc<(Vec<(Value, Value)>, u32, Charge)>);

impl Deref for Dict {
    type Target = [(Value, Value)];
    fn deref(&self) -> &[(Value, Value)] {
        &self.0.0
    }
}

impl Dict {
    /// The value of a text.
    pub(super) fn text(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(k, _)| matches!(k, Value::Str(s) if **s == *key)).map(|(_, v)| v)
    }
}

/// What `namespace()` gives: the one thing that can be changed.
pub(super) type Namespace = Rc<RefCell<Vec<(String, Value)>>>;

/// A view of a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// Something that can be called.
#[derive(Debug, Clone)]
pub(super) enum Callable {
    /// A function of Jinja's or of transformers'.
    Global(&'static str),
    /// A method of a value.
    Method(Box<Value>, String),
    /// A macro, by its number in the run.
    Macro(usize),
    Cycler(Rc<(Items, Cell<usize>)>),
    Joiner(Text, Rc<Cell<bool>>),
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, with the name it was looked for by.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    List(Items),
    Tuple(Items),
    Dict(Dict),
    View(View, Dict),
    /// Start, length, step.
    Range(i128, usize, i128),
    /// What a filter gives piece by piece, once.
    Generator(Rc<RefCell<std::vec::IntoIter<Value>>>),
    Namespace(Namespace),
    Loop(Rc<Loop>),
    Callable(Callable),
}

impl Value {
    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(name.into())
    }

    pub(super) fn str(text: impl Into<String>) -> Result<Value> {
        Value::text_of(text.into(), false)
    }

    /// A text that is HTML or not.
    pub(super) fn text_of(text: String, html: bool) -> Result<Value> {
        walk(text.len())?;
        let charge = charge(text.len() + 112)?;
        Ok(Value::Str(Text(Rc::new((text, charge, html)))))
    }

    /// Whether this is a text that is known to be HTML.
    pub(super) fn is_html(&self) -> bool {
        matches!(self, Value::Str(text) if text.is_html())
    }

    /// Whether both are one and the same, as `is` finds it. Texts and numbers Python keeps once, mostly.
    pub(super) fn is_same(&self, other: &Value) -> Result<bool> {
        match (self, other) {
            (Value::List(a), Value::List(b)) => Ok(Rc::ptr_eq(&a.0, &b.0)),
            // There is one empty tuple.
            (Value::Tuple(a), Value::Tuple(b)) => Ok(Rc::ptr_eq(&a.0, &b.0) || a.len() + b.len() == 0),
            (Value::Dict(a), Value::Dict(b)) => Ok(Rc::ptr_eq(&a.0, &b.0)),
            (Value::Undefined(_), _) => Ok(false),
            _ => Ok(self.kind() == other.kind() && equal(self, other)?),
        }
    }

    fn items(items: Vec<Value>) -> Result<Items> {
        work(items.len())?;
        let charge = charge(items.len() * size_of::<Value>() + 64)?;
        let depth = deeper(items.iter())?;
        Ok(Items(Rc::new((items, depth, charge))))
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Value> {
        Value::items(items).map(Value::List)
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value> {
        Value::items(items).map(Value::Tuple)
    }

    pub(super) fn generator(items: Vec<Value>) -> Result<Value> {
        work(items.len())?;
        Ok(Value::Generator(Rc::new(RefCell::new(items.into_iter()))))
    }

    /// A dictionary of pairs of which the last of a key counts, at the place of the first.
    pub(super) fn dict(pairs: Vec<(Value, Value)>) -> Result<Value> {
        let mut out: Vec<(Value, Value)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            hashable(&key)?;
            work(out.len() / 8 + 1)?;
            match out.iter_mut().find(|(k, _)| equal_plain(k, &key)) {
                Some(entry) => entry.1 = value,
                None => out.push((key, value)),
            }
        }
        Value::dict_of(out)
    }

    /// A dictionary of pairs whose keys are known to differ.
    fn dict_of(pairs: Vec<(Value, Value)>) -> Result<Value> {
        let charge = charge(pairs.len() * size_of::<(Value, Value)>() + 64)?;
        let depth = deeper(pairs.iter().flat_map(|(k, v)| [k, v]))?;
        Ok(Value::Dict(Dict(Rc::new((pairs, depth, charge)))))
    }

    /// A value of JSON, whose own depth is bounded by what parsed it.
    pub(super) fn from_json(json: &Json) -> Result<Value> {
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Value::Int(i.into()),
                (_, Some(u)) => Value::Int(u.into()),
                _ => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Value::str(s.as_str())?,
            Json::Array(items) => Value::list(items.iter().map(Value::from_json).collect::<Result<_>>()?)?,
            Json::Object(map) => {
                let pair = |(k, v): (&String, &Json)| Ok((Value::str(k.as_str())?, Value::from_json(v)?));
                Value::dict_of(map.iter().map(pair).collect::<Result<_>>()?)?
            }
        })
    }

    /// Python's name of the type, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(View::Keys, _) => "dict_keys",
            Value::View(View::Values, _) => "dict_values",
            Value::View(View::Items, _) => "dict_items",
            Value::Range(..) => "range",
            Value::Generator(_) => "generator",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Callable(_) => "function",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::List(l) | Value::Tuple(l) => !l.is_empty(),
            Value::Dict(d) | Value::View(_, d) => !d.is_empty(),
            Value::Range(_, n, _) => *n > 0,
            _ => true,
        }
    }

    /// `len(value)`.
    pub(super) fn len(&self) -> Result<usize> {
        Ok(match self {
            Value::Undefined(_) => 0,
            Value::Str(s) => {
                walk(s.len())?;
                s.chars().count()
            }
            Value::List(l) | Value::Tuple(l) => l.len(),
            Value::Dict(d) | Value::View(_, d) => d.len(),
            Value::Range(_, n, _) => *n,
            Value::Loop(l) => l.items.len(),
            other => return Fault::err(format!("object of type '{}' has no len()", other.kind())),
        })
    }

    /// All that iterating gives. A generator is empty then.
    pub(super) fn iter(&self) -> Result<Vec<Value>> {
        if let Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::View(..) = self {
            drop(charge(self.len()?.saturating_mul(size_of::<Value>()))?);
        }
        let items = match self {
            Value::Undefined(_) => Vec::new(),
            Value::Str(s) => {
                work(s.len())?;
                s.chars().map(Value::str).collect::<Result<_>>()?
            }
            Value::List(l) | Value::Tuple(l) => l.to_vec(),
            Value::Dict(d) | Value::View(View::Keys, d) => d.iter().map(|p| p.0.clone()).collect(),
            Value::View(View::Values, d) => d.iter().map(|p| p.1.clone()).collect(),
            Value::View(View::Items, d) => {
                let pair = |(k, v): &(Value, Value)| Value::tuple(vec![k.clone(), v.clone()]);
                d.iter().map(pair).collect::<Result<_>>()?
            }
            Value::Range(start, n, step) => {
                work(*n)?;
                (0..*n as i128).map(|i| Value::Int(start + i * step)).collect()
            }
            Value::Generator(rest) => rest.borrow_mut().by_ref().collect(),
            other => return Fault::err(format!("'{}' object is not iterable", other.kind())),
        };
        work(items.len())?;
        Ok(items)
    }

    /// A whole number, as far as Python takes it for an index.
    pub(super) fn index(&self) -> Result<i128> {
        match self {
            Value::Int(i) => Ok(*i),
            Value::Bool(b) => Ok((*b).into()),
            Value::Undefined(name) => Fault::err(format!("'{name}' is undefined")),
            other => Fault::err(format!("'{}' object cannot be interpreted as an integer", other.kind())),
        }
    }

    pub(super) fn text(&self) -> Result<&str> {
        match self {
            Value::Str(s) => Ok(s),
            Value::Undefined(name) => Fault::err(format!("'{name}' is undefined")),
            other => Fault::err(format!("expected str, found {}", other.kind())),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(i) => Some(*i as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Value::Bool(b) => Some((*b).into()),
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }
}

/// How deep a list of these nests. Namespaces do not count: the run holds them, so nothing recurses into one.
fn deeper<'a>(items: impl Iterator<Item = &'a Value>) -> Result<u32> {
    let of = |v: &Value| match v {
        Value::List(l) | Value::Tuple(l) => l.0.1,
        Value::Dict(d) | Value::View(_, d) => d.0.1,
        Value::Callable(Callable::Method(v, _)) => match &**v {
            Value::List(l) | Value::Tuple(l) => l.0.1,
            Value::Dict(d) | Value::View(_, d) => d.0.1,
            Value::Callable(_) => MAX_NESTING,
            _ => 0,
        },
        Value::Generator(_) | Value::Loop(_) => MAX_NESTING / 2,
        _ => 0,
    };
    let depth = items.map(of).max().unwrap_or(0) + 1;
    if depth > MAX_NESTING { Err(Fault::Nested) } else { Ok(depth) }
}

fn hashable(key: &Value) -> Result<()> {
    match key {
        Value::List(_) | Value::Dict(_) => Fault::err(format!("unhashable type: '{}'", key.kind())),
        Value::Tuple(items) => items.iter().try_for_each(hashable),
        _ => Ok(()),
    }
}

/// Equality of keys, whose work is charged by the caller.
fn equal_plain(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => **a == **b,
        _ => equal(a, b).unwrap_or(false),
    }
}

/// `a == b`.
pub(super) fn equal(a: &Value, b: &Value) -> Result<bool> {
    work(1)?;
    let all = |a: &[Value], b: &[Value]| -> Result<bool> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !equal(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    Ok(match (a, b) {
        (Value::Str(a), Value::Str(b)) => {
            walk(a.len().min(b.len()))?;
            **a == **b
        }
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => all(a, b)?,
        (Value::Dict(a), Value::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.iter() {
                match lookup(b, key)? {
                    Some(other) if equal(value, &other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(..), Value::Range(..)) => all(&a.iter()?, &b.iter()?)?,
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (a, b) => match (a.whole(), b.whole()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((a.number(), b.number()), (Some(a), Some(b)) if a == b),
        },
    })
}

/// The value of a key.
pub(super) fn lookup(dict: &Dict, key: &Value) -> Result<Option<Value>> {
    hashable(key)?;
    work(dict.len() / 8 + 1)?;
    Ok(dict.iter().find(|(k, _)| equal_plain(k, key)).map(|(_, v)| v.clone()))
}

/// How `a` and `b` are ordered, where Python orders them; `op` is for the message.
pub(super) fn order(a: &Value, b: &Value, op: &str) -> Result<Option<Ordering>> {
    work(1)?;
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => {
            walk(a.len().min(b.len()))?;
            Ok(Some((**a).cmp(&**b)))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (x, y) in a.iter().zip(b.iter()) {
                if !equal(x, y)? {
                    return order(x, y, op);
                }
            }
            Ok(Some(a.len().cmp(&b.len())))
        }
        (Value::Undefined(name), _) | (_, Value::Undefined(name)) => {
            Fault::err(format!("'{name}' is undefined"))
        }
        (a, b) => match (a.whole(), b.whole(), a.number(), b.number()) {
            (Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
            (_, _, Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            _ => Fault::err(format!(
                "'{op}' not supported between instances of '{}' and '{}'",
                a.kind(),
                b.kind()
            )),
        },
    }
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Str(text) => match item {
            Value::Str(part) => {
                walk(text.len())?;
                Ok(text.contains(&**part))
            }
            Value::Undefined(name) => Fault::err(format!("'{name}' is undefined")),
            other => {
                Fault::err(format!("'in <string>' requires string as left operand, not {}", other.kind()))
            }
        },
        Value::Dict(d) | Value::View(View::Keys, d) => Ok(lookup(d, item)?.is_some()),
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            Fault::err(format!("argument of type '{}' is not iterable", container.kind()))
        }
        other => {
            for value in other.iter()? {
                if equal(&value, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
