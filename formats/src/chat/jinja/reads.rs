//! Which names a template has from outside: what a variable or a field of a message that has another name would not change.

use std::collections::BTreeSet;

use super::Program;
use super::ast::{Args, Const, Expr, ExprKind, Macro, Node, Statement, Target};

/// The names that a template reads.
#[derive(Debug, Default)]
pub(in super::super) struct Reads {
    /// Variables that it reads where it has not surely set them itself.
    pub(in super::super) variables: BTreeSet<String>,
    /// Fields, and texts, which may name fields or be compared with what a field holds.
    pub(in super::super) fields: BTreeSet<String>,
}

impl Program {
    /// The names that it reads.
    pub(in super::super) fn reads(&self) -> Reads {
        let mut walk = Walk::default();
        walk.nodes(&self.0);
        walk.reads
    }
}

#[derive(Default)]
struct Walk {
    /// Names that are the template's own at this place.
    own: Vec<String>,
    reads: Reads,
}

impl Walk {
    /// Walks with names that end with it, as those of a loop do. Those that only one branch sets may not be set, so a
    /// branch is such a place too.
    fn within(&mut self, walk: impl FnOnce(&mut Walk)) {
        let before = self.own.len();
        walk(self);
        self.own.truncate(before);
    }

    fn nodes(&mut self, nodes: &[Node]) {
        nodes.iter().for_each(|node| self.node(&node.kind));
    }

    fn node(&mut self, node: &Statement) {
        match node {
            Statement::Data(_) | Statement::Break | Statement::Continue => {}
            Statement::Print(e) => self.expr(e),
            Statement::If(branches) => {
                for (condition, body) in branches {
                    self.some(condition.as_ref());
                    self.within(|w| w.nodes(body));
                }
            }
            Statement::For(f) => {
                self.expr(&f.over);
                self.within(|w| {
                    w.bind(&f.target);
                    w.own.push("loop".into());
                    w.some(f.only.as_ref());
                    w.nodes(&f.body);
                });
                self.within(|w| w.nodes(&f.otherwise));
            }
            Statement::Set(target, e) => {
                self.expr(e);
                self.bind(target);
            }
            Statement::SetBlock(target, filters, body) => {
                self.within(|w| w.nodes(body));
                self.some(filters.as_ref());
                self.bind(target);
            }
            Statement::Macro(m) => {
                self.body(m);
                self.own.push(m.name.clone());
            }
            Statement::CallBlock(call, m) => {
                self.expr(call);
                self.body(m);
            }
            Statement::FilterBlock(filters, body) => {
                self.expr(filters);
                self.within(|w| w.nodes(body));
            }
            Statement::With(values, body) => self.within(|w| {
                for (target, e) in values {
                    w.expr(e);
                    w.bind(target);
                }
                w.nodes(body);
            }),
            Statement::Scope(body) => self.within(|w| w.nodes(body)),
        }
    }

    fn body(&mut self, m: &Macro) {
        self.within(|w| {
            for (name, default) in &m.parameters {
                w.some(default.as_ref());
                w.own.push(name.clone());
            }
            w.own.extend(["varargs", "kwargs", "caller"].map(String::from));
            w.nodes(&m.body);
        });
    }

    fn bind(&mut self, target: &Target) {
        match target {
            Target::Name(name) => self.own.push(name.clone()),
            Target::Field(name, _) => self.name(name),
            Target::Tuple(targets) => targets.iter().for_each(|t| self.bind(t)),
        }
    }

    fn name(&mut self, name: &String) {
        if !self.own.contains(name) {
            self.reads.variables.insert(name.clone());
        }
    }

    fn some<'a>(&mut self, e: impl IntoIterator<Item = &'a Expr>) {
        e.into_iter().for_each(|e| self.expr(e));
    }

    fn args(&mut self, args: &Args) {
        self.some(&args.positional);
        self.some(args.named.iter().map(|(_, e)| e));
        self.some(args.more.as_deref());
        self.some(args.more_named.as_deref());
    }

    fn expr(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Const(Const::Text(text)) => drop(self.reads.fields.insert(text.to_string())),
            ExprKind::Const(_) => {}
            ExprKind::Name(name) => self.name(name),
            ExprKind::List(items) | ExprKind::Tuple(items) | ExprKind::Concat(items) => self.some(items),
            ExprKind::Dict(pairs) => self.some(pairs.iter().flat_map(|(key, value)| [key, value])),
            ExprKind::Not(e) | ExprKind::Negative(e) | ExprKind::Positive(e) => self.expr(e),
            ExprKind::Binary(_, both) | ExprKind::And(both) | ExprKind::Or(both) | ExprKind::Item(both) => {
                self.some([&both.0, &both.1]);
            }
            ExprKind::Compare(first, others) => {
                self.expr(first);
                self.some(others.iter().map(|(_, e)| e));
            }
            ExprKind::If(parts) => {
                self.some([&parts.0, &parts.1]);
                self.some(parts.2.as_ref());
            }
            ExprKind::Field(of, name) => {
                self.reads.fields.insert(name.clone());
                self.expr(of);
            }
            ExprKind::Slice(parts) => {
                self.expr(&parts.0);
                self.some(parts.1.iter().flatten());
            }
            ExprKind::Call(of, args) => {
                self.expr(of);
                self.args(args);
            }
            ExprKind::Filter(of, _, args) => {
                self.some(of.as_deref());
                self.args(args);
            }
            ExprKind::Test(of, _, args) => {
                self.expr(of);
                self.args(args);
            }
        }
    }
}
