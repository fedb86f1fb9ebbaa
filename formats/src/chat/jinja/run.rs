//! Statements.

use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Expr, ExprKind, For, Node, Statement, Target};
use super::call::Given;
use super::eval::{Loop, Run, Scope};
use super::show;
use super::value::{Callable, Value, work};
use super::{Fault, Result};

/// Most bytes a rendering may give.
const MAX_OUTPUT: usize = 32 << 20;

impl Run<'_> {
    /// Runs a body with names of its own.
    pub(super) fn scoped<T>(
        &mut self,
        names: Vec<(String, Value)>,
        f: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let outer = self.scope;
        let (scopes, macros) = (self.scopes.len(), self.macros.len());
        self.scopes.push(Scope { parent: Some(outer), names });
        self.scope = scopes;
        let done = f(self);
        self.scope = outer;
        // A macro that was made in there may still be called, and sees its scope.
        if self.macros.len() == macros {
            self.scopes.truncate(scopes);
        }
        done
    }

    pub(super) fn nodes(&mut self, nodes: &[Node]) -> Result<()> {
        for node in nodes {
            work(1)?;
            self.node(node).map_err(|f| f.at(node.line))?;
        }
        Ok(())
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        let Some(out) = self.out.last_mut() else { return Ok(()) };
        show::write(value, out)?;
        if out.len() > MAX_OUTPUT { Err(Fault::TooLong) } else { Ok(()) }
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        match &node.kind {
            Statement::Data(text) => match self.out.last_mut() {
                Some(out) if out.len() > MAX_OUTPUT => Err(Fault::TooLong),
                Some(out) => out.push(text),
                None => Ok(()),
            },
            Statement::Print(e) => {
                let value = self.eval(e)?;
                self.print(&value)
            }
            Statement::If(arms) => {
                for (condition, body) in arms {
                    let holds = match condition {
                        Some(e) => self.eval(e)?.is_true(),
                        None => true,
                    };
                    if holds {
                        return self.deeper(|run| run.nodes(body));
                    }
                }
                Ok(())
            }
            Statement::For(body) => {
                let over = self.eval(&body.over)?;
                self.repeat(body, &over, 1)
            }
            Statement::Set(target, e) => {
                let value = self.eval(e)?;
                self.assign(target, value)
            }
            Statement::SetBlock(target, filters, body) => {
                let value = self.scoped(Vec::new(), |run| run.collect(body))?;
                let value = self.filtered(filters.as_ref(), value)?;
                self.assign(target, value)
            }
            Statement::FilterBlock(filters, body) => {
                let value = self.scoped(Vec::new(), |run| run.collect(body))?;
                let value = self.filtered(Some(filters), value)?;
                self.print(&value)
            }
            Statement::Macro(body) => {
                self.macros.push((body.clone(), self.scope));
                let value = Value::Callable(Callable::Macro(self.macros.len() - 1));
                self.set(&body.name, value);
                Ok(())
            }
            Statement::CallBlock(call, body) => {
                self.macros.push((body.clone(), self.scope));
                let caller = Value::Callable(Callable::Macro(self.macros.len() - 1));
                let ExprKind::Call(callee, args) = &call.kind else { return Ok(()) };
                let value = self.deeper(|run| run.call_expr(callee, args, Some(caller)))?;
                self.print(&value)
            }
            Statement::With(values, body) => {
                // Each value is of the names around the block.
                let mut found = Vec::new();
                for (target, e) in values {
                    found.push((target, self.eval(e)?));
                }
                self.scoped(Vec::new(), |run| {
                    for (target, value) in found {
                        run.assign(target, value)?;
                    }
                    run.deeper(|run| run.nodes(body))
                })
            }
            Statement::Scope(body) => self.scoped(Vec::new(), |run| run.deeper(|run| run.nodes(body))),
            Statement::Break => Err(Fault::Break),
            Statement::Continue => Err(Fault::Continue),
        }
    }

    /// A collected text through the filters of its block.
    fn filtered(&mut self, filters: Option<&Expr>, value: Value) -> Result<Value> {
        match filters {
            None => Ok(value),
            Some(e) => self.scoped(vec![("weft filter block".to_owned(), value)], |run| run.eval(e)),
        }
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => {
                self.set(name, value);
                Ok(())
            }
            Target::Field(name, field) => {
                let at = Expr { line: 0, kind: ExprKind::Name(name.clone()) };
                let Value::Namespace(ns) = self.eval(&at)? else {
                    return Fault::err("cannot assign attribute on non-namespace object");
                };
                let mut ns = ns.borrow_mut();
                let old = match ns.iter_mut().find(|n| n.0 == *field) {
                    Some(entry) => Some(std::mem::replace(&mut entry.1, value)),
                    None => {
                        ns.push((field.clone(), value));
                        None
                    }
                };
                // What goes may be large, and must not see the namespace borrowed.
                drop(ns);
                drop(old);
                Ok(())
            }
            Target::Tuple(targets) => {
                let values = value.iter()?;
                if values.len() != targets.len() {
                    let (want, got) = (targets.len(), values.len());
                    let what = if got > want { "too many" } else { "not enough" };
                    return Fault::err(format!("{what} values to unpack (expected {want}, got {got})"));
                }
                targets.iter().zip(values).try_for_each(|(target, value)| self.assign(target, value))
            }
        }
    }

    fn repeat(&mut self, body: &Arc<For>, over: &Value, depth: usize) -> Result<()> {
        let mut items = over.iter()?;
        if let Some(only) = &body.only {
            let mut kept = Vec::new();
            for item in items {
                let holds = self.scoped(Vec::new(), |run| {
                    run.assign(&body.target, item.clone())?;
                    run.eval(only)
                })?;
                if holds.is_true() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(Vec::new(), |run| run.deeper(|run| run.nodes(&body.otherwise)));
        }
        let again = body.recursive.then(|| body.clone());
        let state = Rc::new(Loop::new(items, depth, again, self.scope));
        for at in 0..state.items.len() {
            state.at.set(at);
            let item = state.items[at].clone();
            let done = self.scoped(vec![("loop".to_owned(), Value::Loop(state.clone()))], |run| {
                run.assign(&body.target, item)?;
                run.deeper(|run| run.nodes(&body.body))
            });
            match done {
                Ok(()) | Err(Fault::Continue) => {}
                Err(Fault::Break) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// `loop(items)` in a recursive loop: what its body prints for these.
    pub(super) fn recurse(&mut self, state: &Loop, given: &Given) -> Result<Value> {
        let Some(body) = state.body.clone() else {
            return Fault::err("the loop must have the 'recursive' marker to be called recursively");
        };
        let [items] = given.plain::<1>(1)?;
        let outer = std::mem::replace(&mut self.scope, state.scope);
        self.out.push(show::Out::default());
        let items = items.unwrap_or(Value::None);
        let done = self.deeper(|run| run.repeat(&body, &items, state.depth + 1));
        let text = self.out.pop().unwrap_or_default().done();
        self.scope = outer;
        done?;
        Value::str(text)
    }
}
