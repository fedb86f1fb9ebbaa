//! Filters of lists and what else can be iterated.

use std::cmp::Ordering;

use super::super::call::{Given, true_or, whole_or};
use super::super::value::{Value, charge, equal, order, work};
use super::super::{Fault, Result, checks, methods, show};
use super::{at_path, folded, pairs, plus};

pub(super) fn apply(value: &Value, name: &str, given: &Given) -> Result<Value> {
    match name {
        "list" => Value::list(value.iter()?),
        "first" => Ok(value.iter()?.into_iter().next().unwrap_or_else(|| Value::undefined("first"))),
        "last" => {
            if matches!(value, Value::Generator(_)) {
                return Fault::err("'generator' object is not reversible");
            }
            Ok(value.iter()?.pop().unwrap_or_else(|| Value::undefined("last")))
        }
        "reverse" => match value {
            Value::Str(s) => Value::str(s.chars().rev().collect::<String>()),
            other => {
                let mut items = other.iter()?;
                items.reverse();
                Value::generator(items)
            }
        },
        "items" => match value {
            Value::Undefined(_) => Value::generator(Vec::new()),
            Value::Dict(_) => {
                let pair = |(k, v)| Value::tuple(vec![k, v]);
                Value::generator(pairs(value)?.into_iter().map(pair).collect::<Result<_>>()?)
            }
            _ => Fault::err("Can only get item pairs from a mapping."),
        },
        "join" => join(value, given),
        "batch" | "slice" => pieces(value, name, given),
        "map" => map(value, given),
        "select" | "reject" | "selectattr" | "rejectattr" => select(value, name, given),
        "sort" => {
            let [reverse, case, attribute] = given.take(["reverse", "case_sensitive", "attribute"])?;
            let keys = keyed(value.iter()?, attribute.as_ref(), true_or(case.as_ref(), false))?;
            Value::list(sorted(keys, true_or(reverse.as_ref(), false))?)
        }
        "dictsort" => {
            let [case, by, reverse] = given.take(["case_sensitive", "by", "reverse"])?;
            let by_value = match by.as_ref().map(Value::text).transpose()? {
                None | Some("key") => false,
                Some("value") => true,
                Some(_) => return Fault::err("You can only sort by either \"key\" or \"value\""),
            };
            let case = true_or(case.as_ref(), false);
            let mut keys = Vec::new();
            for (k, v) in pairs(value)? {
                let key = folded(if by_value { v.clone() } else { k.clone() }, case)?;
                keys.push((key, Value::tuple(vec![k, v])?));
            }
            Value::list(sorted(keys, true_or(reverse.as_ref(), false))?)
        }
        "groupby" => groups(value, given),
        "unique" => {
            let [case, attribute] = given.take(["case_sensitive", "attribute"])?;
            let mut seen: Vec<(Value, Value)> = Vec::new();
            for (key, item) in keyed(value.iter()?, attribute.as_ref(), true_or(case.as_ref(), false))? {
                let mut new = true;
                for (other, _) in &seen {
                    new &= !equal(other, &key)?;
                }
                if new {
                    seen.push((key, item));
                }
            }
            Value::generator(seen.into_iter().map(|s| s.1).collect())
        }
        "min" | "max" => {
            let [case, attribute] = given.take(["case_sensitive", "attribute"])?;
            let keys = keyed(value.iter()?, attribute.as_ref(), true_or(case.as_ref(), false))?;
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let mut best: Option<(Value, Value)> = None;
            for (key, item) in keys {
                let better = match &best {
                    None => true,
                    Some((other, _)) => order(&key, other, "<")? == Some(wanted),
                };
                if better {
                    best = Some((key, item));
                }
            }
            Ok(best.map_or_else(|| Value::undefined("No aggregated item, sequence was empty."), |b| b.1))
        }
        _ => {
            let [attribute, start] = given.take(["attribute", "start"])?;
            let mut total = start.unwrap_or(Value::Int(0));
            for item in value.iter()? {
                let item = match &attribute {
                    None | Some(Value::None) => item,
                    Some(path) => at_path(&item, path, None)?,
                };
                total = plus(&total, &item)?;
            }
            Ok(total)
        }
    }
}

fn join(value: &Value, given: &Given) -> Result<Value> {
    let [between, attribute] = given.take(["d", "attribute"])?;
    let between = between.map_or_else(|| Ok(String::new()), |d| show::text(&d))?;
    let mut parts = Vec::new();
    for item in value.iter()? {
        let item = match &attribute {
            None | Some(Value::None) => item,
            Some(path) => at_path(&item, path, None)?,
        };
        // Kept as values, which are charged for.
        parts.push(Value::str(show::text(&item)?)?);
    }
    let parts = parts.iter().map(Value::text).collect::<Result<Vec<_>>>()?;
    methods::joined(&parts, &between)
}

fn pieces(value: &Value, name: &str, given: &Given) -> Result<Value> {
    let count = if name == "batch" { "linecount" } else { "slices" };
    let [count, fill] = given.take([count, "fill_with"])?;
    let items = value.iter()?;
    let n = whole_or(count.as_ref(), 0)?;
    let n = usize::try_from(n).ok().filter(|n| *n > 0);
    let Some(n) = n else { return Fault::err("must have a positive number of items") };
    let mut out = Vec::new();
    if name == "batch" {
        for part in items.chunks(n) {
            let mut part = part.to_vec();
            if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None)) {
                drop(charge((n - part.len()).saturating_mul(size_of::<Value>()))?);
                work(n - part.len())?;
                part.resize(n, fill.clone());
            }
            out.push(Value::list(part)?);
        }
        return Value::generator(out);
    }
    work(n)?;
    let (each, longer) = (items.len() / n, items.len() % n);
    let mut at = 0;
    for i in 0..n {
        let length = each + usize::from(i < longer);
        let mut part = items[at..at + length].to_vec();
        at += length;
        if let Some(fill) = fill.as_ref().filter(|f| i >= longer && !matches!(f, Value::None)) {
            part.push(fill.clone());
        }
        out.push(Value::list(part)?);
    }
    Value::generator(out)
}

fn map(value: &Value, given: &Given) -> Result<Value> {
    let mut out = Vec::new();
    let named = |name: &str| given.named.iter().find(|n| n.0 == name).map(|n| &n.1);
    if let (Some(path), true) = (named("attribute"), given.positional.is_empty()) {
        if let Some((name, _)) = given.named.iter().find(|(n, _)| n != "attribute" && n != "default") {
            return Fault::err(format!("Unexpected keyword argument '{name}'"));
        }
        for item in value.iter()? {
            out.push(at_path(&item, path, named("default"))?);
        }
        return Value::generator(out);
    }
    let Some((name, rest)) = given.positional.split_first() else {
        return Fault::err("map requires a filter argument");
    };
    let inner = Given { positional: rest.to_vec(), named: given.named.clone() };
    for item in value.iter()? {
        out.push(super::apply(&item, name.text()?, &inner)?);
    }
    Value::generator(out)
}

fn select(value: &Value, name: &str, given: &Given) -> Result<Value> {
    let mut rest = given.positional.iter();
    let path = match name.ends_with("attr") {
        true => match rest.next() {
            Some(path) => Some(path.clone()),
            None => return Fault::err("Missing parameter for attribute name"),
        },
        false => None,
    };
    let test = rest.next().map(|t| t.text().map(str::to_owned)).transpose()?;
    let inner = Given { positional: rest.cloned().collect(), named: given.named.clone() };
    let wanted = name.starts_with("select");
    let mut out = Vec::new();
    for item in value.iter()? {
        let judged = match &path {
            Some(path) => at_path(&item, path, None)?,
            None => item.clone(),
        };
        let holds = match &test {
            Some(test) => checks::check(&judged, test, &inner)?,
            None => judged.is_true(),
        };
        if holds == wanted {
            out.push(item);
        }
    }
    Value::generator(out)
}

/// Items with what they are compared by. `attribute` may name several, with commas between them.
fn keyed(items: Vec<Value>, attribute: Option<&Value>, case: bool) -> Result<Vec<(Value, Value)>> {
    let mut out = Vec::new();
    for item in items {
        let key = match attribute {
            None | Some(Value::None) => folded(item.clone(), case)?,
            Some(Value::Str(paths)) if paths.contains(',') => {
                let mut keys = Vec::new();
                for path in paths.split(',') {
                    keys.push(folded(at_path(&item, &Value::str(path)?, None)?, case)?);
                }
                Value::list(keys)?
            }
            Some(path) => folded(at_path(&item, path, None)?, case)?,
        };
        out.push((key, item));
    }
    Ok(out)
}

/// Items in the order of their keys; equal ones stay as they are.
fn sorted(mut keys: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<Value>> {
    let mut fault = None;
    keys.sort_by(|a, b| {
        let (a, b) = if reverse { (&b.0, &a.0) } else { (&a.0, &b.0) };
        match order(a, b, "<") {
            Ok(o) => o.unwrap_or(Ordering::Equal),
            Err(e) => {
                fault = Some(e);
                Ordering::Equal
            }
        }
    });
    match fault {
        Some(e) => Err(e),
        None => Ok(keys.into_iter().map(|k| k.1).collect()),
    }
}

fn groups(value: &Value, given: &Given) -> Result<Value> {
    let [attribute, default, case] = given.take(["attribute", "default", "case_sensitive"])?;
    let attribute = attribute.unwrap_or(Value::None);
    let case = true_or(case.as_ref(), false);
    let mut keys = Vec::new();
    for item in value.iter()? {
        let own = at_path(&item, &attribute, default.as_ref())?;
        keys.push((folded(own.clone(), case)?, Value::tuple(vec![own, item])?));
    }
    let mut out: Vec<(Value, Vec<Value>)> = Vec::new();
    for pair in sorted(keys, false)? {
        let [own, item] = &pair.iter()?[..] else { continue };
        match out.last_mut() {
            Some((key, items)) if equal(&folded(key.clone(), case)?, &folded(own.clone(), case)?)? => {
                items.push(item.clone());
            }
            _ => out.push((own.clone(), vec![item.clone()])),
        }
    }
    let group = |(key, items)| Value::tuple(vec![key, Value::list(items)?]);
    Value::list(out.into_iter().map(group).collect::<Result<_>>()?)
}
