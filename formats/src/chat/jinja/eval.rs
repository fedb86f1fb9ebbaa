//! Expressions: what they give, and what calls do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Args, Const, Expr, ExprKind, Macro, Node};
use super::call::{Given, whole_or};
use super::show::{self, Out};
use super::value::{Callable, Dict, Value, contains, equal, order, work};
use super::{Clock, Fault, Result, checks, filters, methods, ops};

/// Deepest nesting of expressions and statements at work, macros included.
const MAX_DEPTH: usize = 240;
/// Most numbers of a `range`, as the sandbox has it.
const MAX_RANGE: i128 = 100_000;

const GLOBALS: [&str; 7] =
    ["range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now"];

/// The state of a loop, as its body sees it by the name `loop`.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: Vec<Value>,
    pub(super) at: Cell<usize>,
    pub(super) depth: usize,
    changed: RefCell<Option<Vec<Value>>>,
    /// What a recursive loop runs when it is called.
    pub(super) body: Option<Arc<super::ast::For>>,
    pub(super) scope: usize,
}

impl Loop {
    pub(super) fn new(
        items: Vec<Value>,
        depth: usize,
        body: Option<Arc<super::ast::For>>,
        scope: usize,
    ) -> Loop {
        Loop { items, at: Cell::new(0), depth, changed: RefCell::new(None), body, scope }
    }
}

/// Names of a block, and the block around it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) parent: Option<usize>,
    pub(super) names: Vec<(String, Value)>,
}

/// A rendering.
pub(super) struct Run<'a> {
    pub(super) scopes: Vec<Scope>,
    /// The one at work.
    pub(super) scope: usize,
    /// Macros with the scope that they see.
    pub(super) macros: Vec<(Arc<Macro>, usize)>,
    /// Every namespace, so that none goes while another holds it.
    namespaces: Vec<super::value::Namespace>,
    pub(super) depth: usize,
    /// Where printing goes: the output, or what a block collects.
    pub(super) out: Vec<Out>,
    pub(super) clock: Clock<'a>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Namespaces may hold each other or themselves.
        self.scopes.clear();
        for ns in &self.namespaces {
            let held = std::mem::take(&mut *ns.borrow_mut());
            drop(held);
        }
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(variables: Vec<(String, Value)>, clock: Clock<'a>) -> Run<'a> {
        let scopes = vec![Scope { parent: None, names: variables }];
        let (macros, namespaces) = (Vec::new(), Vec::new());
        Run { scopes, scope: 0, macros, namespaces, depth: 0, out: vec![Out::default()], clock }
    }

    /// Runs something one level deeper.
    pub(super) fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault::Nested);
        }
        self.depth += 1;
        let out = f(self);
        self.depth -= 1;
        out
    }

    fn name(&self, name: &str) -> Result<Value> {
        let mut scope = Some(self.scope);
        let mut steps = 0;
        while let Some(at) = scope {
            let found = self.scopes[at].names.iter().rev().find(|n| n.0 == name);
            if let Some((_, value)) = found {
                work(steps / 8 + 1)?;
                return Ok(value.clone());
            }
            steps += self.scopes[at].names.len() + 1;
            scope = self.scopes[at].parent;
        }
        work(steps / 8 + 1)?;
        match GLOBALS.into_iter().find(|g| *g == name) {
            Some("strftime_now") if self.clock.is_none() => Ok(Value::undefined(name)),
            Some(global) => Ok(Value::Callable(Callable::Global(global))),
            None => Ok(Value::undefined(name)),
        }
    }

    pub(super) fn eval(&mut self, e: &Expr) -> Result<Value> {
        work(1)?;
        self.deeper(|run| run.eval_inner(e)).map_err(|f| f.at(e.line))
    }

    fn all(&mut self, list: &[Expr]) -> Result<Vec<Value>> {
        list.iter().map(|e| self.eval(e)).collect()
    }

    fn eval_inner(&mut self, e: &Expr) -> Result<Value> {
        match &e.kind {
            ExprKind::Const(c) => constant(c),
            ExprKind::Name(name) => self.name(name),
            ExprKind::List(list) => Value::list(self.all(list)?),
            ExprKind::Tuple(list) => Value::tuple(self.all(list)?),
            ExprKind::Dict(pairs) => {
                let mut out = Vec::new();
                for (k, v) in pairs {
                    out.push((self.eval(k)?, self.eval(v)?));
                }
                Value::dict(out)
            }
            ExprKind::Not(inner) => Ok(Value::Bool(!self.eval(inner)?.is_true())),
            ExprKind::Negative(inner) => ops::sign(&self.eval(inner)?, true),
            ExprKind::Positive(inner) => ops::sign(&self.eval(inner)?, false),
            ExprKind::Binary(op, both) => {
                let (a, b) = (self.eval(&both.0)?, self.eval(&both.1)?);
                ops::binary(op, &a, &b)
            }
            ExprKind::And(both) | ExprKind::Or(both) => {
                let first = self.eval(&both.0)?;
                let decided = first.is_true() == matches!(e.kind, ExprKind::Or(_));
                if decided { Ok(first) } else { self.eval(&both.1) }
            }
            ExprKind::Concat(parts) => {
                let mut out = Out::default();
                for part in parts {
                    let value = self.eval(part)?;
                    show::write(&value, &mut out)?;
                }
                Value::str(out.done())
            }
            ExprKind::Compare(first, rest) => self.compare(first, rest),
            ExprKind::If(parts) => {
                if self.eval(&parts.1)?.is_true() {
                    return self.eval(&parts.0);
                }
                match &parts.2 {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::undefined("the inline if-expression")),
                }
            }
            ExprKind::Field(value, name) => field(&self.eval(value)?, name),
            ExprKind::Item(both) => {
                let (value, index) = (self.eval(&both.0)?, self.eval(&both.1)?);
                item(&value, &index)
            }
            ExprKind::Slice(parts) => {
                let value = self.eval(&parts.0)?;
                let mut bounds = [Value::None, Value::None, Value::None];
                for (bound, part) in bounds.iter_mut().zip(&parts.1) {
                    if let Some(part) = part {
                        *bound = self.eval(part)?;
                    }
                }
                ops::slice(&value, &bounds)
            }
            ExprKind::Call(callee, args) => self.call_expr(callee, args, None),
            ExprKind::Filter(value, name, args) => {
                let value = match value {
                    Some(value) => self.eval(value)?,
                    // What a filter block collected.
                    None => self.name("weft filter block")?,
                };
                let given = self.given(args)?;
                filters::apply(&value, name, &given)
            }
            ExprKind::Test(value, name, args) => {
                let value = self.eval(value)?;
                let given = self.given(args)?;
                checks::check(&value, name, &given).map(Value::Bool)
            }
        }
    }

    fn compare(&mut self, first: &Expr, rest: &[(&'static str, Expr)]) -> Result<Value> {
        let mut left = self.eval(first)?;
        for (op, right) in rest {
            let right = self.eval(right)?;
            let holds = match *op {
                "==" => equal(&left, &right)?,
                "!=" => !equal(&left, &right)?,
                "in" => contains(&right, &left)?,
                "not in" => !contains(&right, &left)?,
                op => order(&left, &right, op)?.is_some_and(|o| match op {
                    "<" => o.is_lt(),
                    "<=" => o.is_le(),
                    ">" => o.is_gt(),
                    _ => o.is_ge(),
                }),
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn given(&mut self, args: &Args) -> Result<Given> {
        let mut given = Given { positional: self.all(&args.positional)?, named: Vec::new() };
        for (name, value) in &args.named {
            given.named.push((name.clone(), self.eval(value)?));
        }
        if let Some(more) = &args.more {
            given.positional.extend(self.eval(more)?.iter()?);
        }
        if let Some(more) = &args.more_named {
            let Value::Dict(map) = self.eval(more)? else {
                return Fault::err("argument after ** must be a mapping");
            };
            for (key, value) in map.iter() {
                given.named.push((key.text()?.to_owned(), value.clone()));
            }
        }
        Ok(given)
    }

    /// A call, whose callee may be a method; a call block's body comes as `caller`.
    pub(super) fn call_expr(&mut self, callee: &Expr, args: &Args, caller: Option<Value>) -> Result<Value> {
        if let ExprKind::Field(value, name) = &callee.kind {
            let value = self.eval(value)?;
            if caller.is_none() && methods::has(&value, name)? {
                let given = self.given(args)?;
                return methods::call(&value, name, &given);
            }
            let found = field(&value, name)?;
            let given = self.given(args)?;
            return self.call(&found, given, caller);
        }
        let found = self.eval(callee)?;
        let given = self.given(args)?;
        self.call(&found, given, caller)
    }

    fn call(&mut self, callee: &Value, given: Given, caller: Option<Value>) -> Result<Value> {
        match callee {
            Value::Callable(Callable::Global(name)) => self.global(name, &given),
            Value::Callable(Callable::Method(value, name)) => match &**value {
                Value::Loop(state) => loop_call(state, name, &given),
                Value::Callable(inner) => turn(inner, name),
                value => methods::call(value, name, &given),
            },
            Value::Callable(Callable::Macro(number)) => self.call_macro(*number, given, caller),
            Value::Callable(Callable::Joiner(between, used)) => {
                let text = if used.replace(true) { &**between } else { "" };
                Value::str(text)
            }
            Value::Loop(state) => self.recurse(state, &given),
            Value::Undefined(name) => Fault::err(format!("'{name}' is undefined")),
            other => Fault::err(format!("'{}' object is not callable", other.kind())),
        }
    }

    fn call_macro(&mut self, number: usize, mut given: Given, caller: Option<Value>) -> Result<Value> {
        let (body, seen) = self.macros[number].clone();
        let mut names: Vec<(String, Value)> = Vec::new();
        let count = body.parameters.len();
        let rest = given.positional.split_off(count.min(given.positional.len()));
        let mut positional = given.positional.into_iter();
        let mut defaults = Vec::new();
        for (name, default) in &body.parameters {
            let own = given.named.iter().position(|n| n.0 == *name).map(|at| given.named.remove(at).1);
            match positional.next().or(own) {
                Some(value) => names.push((name.clone(), value)),
                None => defaults.push((name, default)),
            }
        }
        if body.reads_varargs {
            names.push(("varargs".to_owned(), Value::tuple(rest)?));
        } else if !rest.is_empty() {
            return Fault::err(format!("macro '{}' takes not more than {count} argument(s)", body.name));
        }
        if let Some(caller) = caller {
            names.push(("caller".to_owned(), caller));
        } else if let Some(at) = given.named.iter().position(|n| n.0 == "caller") {
            names.push(given.named.remove(at));
        }
        if body.reads_kwargs {
            let pair = |(k, v): (String, Value)| Ok((Value::str(k)?, v));
            let map = given.named.into_iter().map(pair).collect::<Result<_>>()?;
            names.push(("kwargs".to_owned(), Value::dict(map)?));
        } else if let Some((name, _)) = given.named.first() {
            return Fault::err(format!("macro '{}' takes no keyword argument '{name}'", body.name));
        }
        let outer = std::mem::replace(&mut self.scope, seen);
        let done = self.scoped(names, |run| {
            for (name, default) in defaults {
                let value = match default {
                    Some(default) => run.eval(default)?,
                    None => Value::undefined(name),
                };
                run.set(name, value);
            }
            run.collect(&body.body)
        });
        self.scope = outer;
        done
    }

    /// What a body prints, as a text.
    pub(super) fn collect(&mut self, body: &[Node]) -> Result<Value> {
        self.out.push(Out::default());
        let done = self.deeper(|run| run.nodes(body));
        let text = self.out.pop().unwrap_or_default().done();
        done?;
        Value::str(text)
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        let names = &mut self.scopes[self.scope].names;
        match names.iter_mut().find(|n| n.0 == name) {
            Some(entry) => entry.1 = value,
            None => names.push((name.to_owned(), value)),
        }
    }

    fn global(&mut self, name: &str, given: &Given) -> Result<Value> {
        match name {
            "range" => {
                let [a, b, c] = given.plain::<3>(1)?;
                let (start, stop) = match b {
                    Some(b) => (whole_or(a.as_ref(), 0)?, b.index()?),
                    None => (0, whole_or(a.as_ref(), 0)?),
                };
                let step = whole_or(c.as_ref(), 1)?;
                if step == 0 {
                    return Fault::err("range() arg 3 must not be zero");
                }
                let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
                let n = span.max(0) as u128;
                let n = n.div_ceil(step.unsigned_abs());
                if n > MAX_RANGE as u128 {
                    return Fault::err(format!(
                        "Range too big. The sandbox blocks ranges larger than {MAX_RANGE}."
                    ));
                }
                Ok(Value::Range(start, n as usize, step))
            }
            "dict" | "namespace" => self.mapping(name, given),
            "cycler" => {
                let Value::Tuple(items) = Value::tuple(given.positional.clone())? else {
                    return Ok(Value::None);
                };
                if items.is_empty() {
                    return Fault::err("at least one item has to be provided");
                }
                Ok(Value::Callable(Callable::Cycler(Rc::new((items, Cell::new(0))))))
            }
            "joiner" => {
                let [between] = given.take(["sep"])?;
                let between = between.map_or_else(|| Ok(", ".to_owned()), |b| show::text(&b))?;
                let Value::Str(between) = Value::str(between)? else { return Ok(Value::None) };
                Ok(Value::Callable(Callable::Joiner(between, Rc::new(Cell::new(false)))))
            }
            "raise_exception" => {
                let [message] = given.take(["message"])?;
                Err(Fault::Raised(show::text(&message.unwrap_or(Value::None))?))
            }
            _ => {
                let [format] = given.plain::<1>(1)?;
                let format = format.unwrap_or(Value::None);
                match self.clock {
                    Some(tell) => Value::str(tell(format.text()?)),
                    None => Fault::err("there is no clock here"),
                }
            }
        }
    }

    /// `dict(...)` and `namespace(...)`.
    fn mapping(&mut self, name: &str, given: &Given) -> Result<Value> {
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        match &given.positional[..] {
            [] => {}
            [Value::Dict(d)] => pairs.extend(d.iter().cloned()),
            [other] => {
                for pair in other.iter()? {
                    match &pair.iter()?[..] {
                        [k, v] => pairs.push((k.clone(), v.clone())),
                        _ => return Fault::err("dictionary update sequence has the wrong length"),
                    }
                }
            }
            _ => return Fault::err(format!("{name} expected at most 1 argument")),
        }
        for (key, value) in &given.named {
            pairs.push((Value::str(key.as_str())?, value.clone()));
        }
        let map = Value::dict(pairs)?;
        let Value::Dict(map) = (if name == "dict" { return Ok(map) } else { map }) else {
            return Ok(Value::None);
        };
        work(16)?;
        let own = map.iter().map(|(k, v)| Ok((k.text()?.to_owned(), v.clone()))).collect::<Result<_>>()?;
        let ns = Rc::new(RefCell::new(own));
        self.namespaces.push(ns.clone());
        // What the list of namespaces itself takes is bounded by the work.
        Ok(Value::Namespace(ns))
    }
}

fn constant(c: &Const) -> Result<Value> {
    Ok(match c {
        Const::None => Value::None,
        Const::Bool(b) => Value::Bool(*b),
        Const::Int(i) => Value::Int(*i),
        Const::Float(x) => Value::Float(*x),
        Const::Text(s) => return Value::str(&**s),
    })
}

/// `cycler.next()` and `.reset()`.
fn turn(inner: &Callable, name: &str) -> Result<Value> {
    let Callable::Cycler(state) = inner else { return Fault::err("is not callable") };
    let at = state.1.get();
    state.1.set(if name == "next" { (at + 1) % state.0.len() } else { 0 });
    Ok(if name == "next" { state.0[at].clone() } else { Value::None })
}

fn loop_call(state: &Loop, name: &str, given: &Given) -> Result<Value> {
    match name {
        "cycle" if given.positional.is_empty() => Fault::err("no items for cycling given"),
        "cycle" => Ok(given.positional[state.at.get() % given.positional.len()].clone()),
        _ => {
            let mut last = state.changed.borrow_mut();
            let mut same = last.as_ref().is_some_and(|l| l.len() == given.positional.len());
            for (a, b) in last.iter().flatten().zip(&given.positional) {
                same = same && equal(a, b)?;
            }
            *last = Some(given.positional.clone());
            Ok(Value::Bool(!same))
        }
    }
}

/// `value.name`: a method or a field first, then a key.
pub(super) fn field(value: &Value, name: &str) -> Result<Value> {
    if methods::has(value, name)? {
        return Ok(Value::Callable(Callable::Method(Box::new(value.clone()), name.to_owned())));
    }
    let key = |dict: &Dict| -> Result<Value> {
        work(dict.len() / 8 + 1)?;
        Ok(dict.text(name).cloned().unwrap_or_else(|| Value::undefined(name)))
    };
    match value {
        Value::Undefined(missing) => Fault::err(format!("'{missing}' is undefined")),
        Value::Dict(dict) => key(dict),
        Value::Namespace(ns) => {
            let ns = ns.borrow();
            work(ns.len() / 8 + 1)?;
            let found = ns.iter().find(|n| n.0 == name).map(|n| n.1.clone());
            Ok(found.unwrap_or_else(|| Value::undefined(name)))
        }
        Value::Loop(state) => loop_field(state, name),
        // What `groupby` gives.
        Value::Tuple(pair) if pair.len() == 2 && name == "grouper" => Ok(pair[0].clone()),
        Value::Tuple(pair) if pair.len() == 2 && name == "list" => Ok(pair[1].clone()),
        Value::Callable(Callable::Cycler(state)) if name == "current" => Ok(state.0[state.1.get()].clone()),
        Value::Callable(Callable::Cycler(_)) if ["next", "reset"].contains(&name) => {
            Ok(Value::Callable(Callable::Method(Box::new(value.clone()), name.to_owned())))
        }
        _ => Ok(Value::undefined(name)),
    }
}

fn loop_field(state: &Rc<Loop>, name: &str) -> Result<Value> {
    let (at, n) = (state.at.get(), state.items.len());
    let number = |i: usize| Ok(Value::Int(i as i128));
    match name {
        "index" => number(at + 1),
        "index0" => number(at),
        "revindex" => number(n - at),
        "revindex0" => number(n - at - 1),
        "first" => Ok(Value::Bool(at == 0)),
        "last" => Ok(Value::Bool(at + 1 == n)),
        "length" => number(n),
        "depth" => number(state.depth),
        "depth0" => number(state.depth - 1),
        "previtem" | "nextitem" => {
            let other = if name == "previtem" { at.checked_sub(1) } else { Some(at + 1) };
            let found = other.and_then(|i| state.items.get(i)).cloned();
            Ok(found.unwrap_or_else(|| Value::undefined(name)))
        }
        "cycle" | "changed" => {
            let own = Value::Loop(state.clone());
            Ok(Value::Callable(Callable::Method(Box::new(own), name.to_owned())))
        }
        _ => Ok(Value::undefined(name)),
    }
}

/// `value[index]`: a key or a position first, then a field.
pub(super) fn item(value: &Value, index: &Value) -> Result<Value> {
    if let Value::Undefined(missing) = value {
        return Fault::err(format!("'{missing}' is undefined"));
    }
    match ops::item(value, index) {
        Ok(Some(found)) => Ok(found),
        // What cannot be a key is no key.
        Ok(None) | Err(Fault::Fail(..)) => match index {
            Value::Str(name)
                if matches!(value, Value::Dict(_)) && !methods::has(value, name).unwrap_or(false) =>
            {
                Ok(Value::undefined(name))
            }
            Value::Str(name) => field(value, name),
            other => Ok(Value::undefined(&show::text(other).unwrap_or_default())),
        },
        Err(other) => Err(other),
    }
}
