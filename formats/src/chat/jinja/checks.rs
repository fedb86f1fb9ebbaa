//! Tests: what stands behind `is`.

use std::cmp::Ordering;

use super::call::Given;
use super::value::{Value, contains, equal, order};
use super::{Fault, Result, filters, ops};

const NAMES: [&str; 38] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
];

pub(super) fn exists(name: &str) -> bool {
    name == "upper" || NAMES.contains(&name)
}

/// `value is NAME(given)`.
pub(super) fn check(value: &Value, name: &str, given: &Given) -> Result<bool> {
    let [other] = given.plain::<1>(0)?;
    let needed =
        || other.clone().ok_or_else(|| Fault::Fail(0, format!("the test '{name}' needs an argument")));
    let whole = |v: &Value| match v {
        Value::Undefined(_) | Value::Int(_) | Value::Bool(_) => ops::binary("%", v, &Value::Int(2)),
        Value::Float(_) => ops::binary("%", v, &Value::Int(2)),
        other => Fault::err(format!("unsupported operand type(s) for %: '{}' and 'int'", other.kind())),
    };
    let compared = |op: &str, want: &[Ordering]| -> Result<bool> {
        Ok(order(value, &needed()?, op)?.is_some_and(|o| want.contains(&o)))
    };
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "iterable" => !matches!(
            value,
            Value::None
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::Namespace(_)
                | Value::Callable(_)
        ),
        "sequence" => matches!(
            value,
            Value::Undefined(_)
                | Value::Str(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(..)
        ),
        // What is not there can be called, with an error.
        "callable" => matches!(value, Value::Callable(_) | Value::Undefined(_)),
        "escaped" => value.is_html(),
        "filter" => value.text().is_ok_and(filters::exists),
        "test" => value.text().is_ok_and(exists),
        "lower" => {
            let text = super::show::text(value)?;
            text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
        }
        "upper" => {
            let text = super::show::text(value)?;
            text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
        }
        "odd" => equal(&whole(value)?, &Value::Int(1))?,
        "even" => equal(&whole(value)?, &Value::Int(0))?,
        "divisibleby" => equal(&ops::binary("%", value, &needed()?)?, &Value::Int(0))?,
        "eq" | "equalto" | "==" => equal(value, &needed()?)?,
        "ne" | "!=" => !equal(value, &needed()?)?,
        "lt" | "lessthan" | "<" => compared("<", &[Ordering::Less])?,
        "le" | "<=" => compared("<=", &[Ordering::Less, Ordering::Equal])?,
        "gt" | "greaterthan" | ">" => compared(">", &[Ordering::Greater])?,
        "ge" | ">=" => compared(">=", &[Ordering::Greater, Ordering::Equal])?,
        "in" => contains(&needed()?, value)?,
        "sameas" => value.is_same(&needed()?)?,
        _ => return Fault::err(format!("there is no test '{name}'")),
    })
}
