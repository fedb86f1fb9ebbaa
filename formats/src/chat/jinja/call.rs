//! What a function, method, filter or test is given.

use super::value::Value;
use super::{Fault, Result};

/// Arguments that are evaluated.
#[derive(Debug, Default, Clone)]
pub(super) struct Given {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Given {
    /// The arguments of these parameters, `None` where they are not given.
    pub(super) fn take<const N: usize>(&self, names: [&str; N]) -> Result<[Option<Value>; N]> {
        if self.positional.len() > N {
            return Fault::err(format!("takes at most {N} arguments, got {}", self.positional.len()));
        }
        let mut out: [Option<Value>; N] = std::array::from_fn(|i| self.positional.get(i).cloned());
        for (name, value) in &self.named {
            let Some(at) = names.iter().position(|n| n == name) else {
                return Fault::err(format!("got an unexpected keyword argument '{name}'"));
            };
            if out[at].is_some() {
                return Fault::err(format!("got multiple values for argument '{name}'"));
            }
            out[at] = Some(value.clone());
        }
        Ok(out)
    }

    /// Arguments without names, from `least` to `N`.
    pub(super) fn plain<const N: usize>(&self, least: usize) -> Result<[Option<Value>; N]> {
        if !self.named.is_empty() {
            return Fault::err("takes no keyword arguments");
        }
        if self.positional.len() < least {
            return Fault::err(format!("takes at least {least} arguments, got {}", self.positional.len()));
        }
        self.take([""; N])
    }
}

/// A whole number, or a default where none is given.
pub(super) fn whole_or(value: Option<&Value>, default: i128) -> Result<i128> {
    value.map_or(Ok(default), Value::index)
}

pub(super) fn true_or(value: Option<&Value>, default: bool) -> bool {
    value.map_or(default, Value::is_true)
}
