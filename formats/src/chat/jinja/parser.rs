//! Tokens to statements. Nesting is bounded, because both the parser and what runs its result recurse.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Fault;
use super::ast::{Args, Expr, ExprKind, For, Macro, Node, Statement, Target};
use super::expressions::constant;
use super::lexer::{Lexer, Token};

/// Deepest nesting of statements and expressions.
const MAX_DEPTH: usize = 120;
/// Most operands of one kind in a row.
const MAX_CHAIN: usize = 200;

/// Names that no variable can have.
pub(super) const RESERVED: [&str; 6] = ["not", "and", "or", "in", "is", "if"];

/// Tags of Jinja that reach for other templates, or that transformers does not switch on.
const REFUSED: [&str; 8] = ["include", "import", "from", "extends", "trans", "do", "debug", "autoescape"];

pub(super) struct Parser {
    pub(super) tokens: Vec<(Token, usize)>,
    pub(super) at: usize,
    depth: usize,
    /// Names that the bodies of the macros around here read, the innermost last.
    reads: Vec<BTreeSet<String>>,
    /// How many loops are around here.
    loops: usize,
}

/// The statements of a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let tokens = Lexer::run(source)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, reads: Vec::new(), loops: 0 };
    let nodes = parser.nodes(&[])?;
    match parser.at == parser.tokens.len() {
        true => Ok(nodes),
        false => parser.fail("a tag ends what was not begun"),
    }
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }

    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.1)
    }

    pub(super) fn fail<T>(&self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::parse(self.line(), what))
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).map(|t| t.0.clone());
        self.at += 1;
        token
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(o)) if *o == op)
    }

    pub(super) fn take_op(&mut self, op: &str) -> bool {
        let is = self.is_op(op);
        self.at += usize::from(is);
        is
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<(), Fault> {
        if self.take_op(op) { Ok(()) } else { self.fail(format!("expected {op:?}, found {}", self.shown())) }
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(n)) if n == name)
    }

    pub(super) fn take_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        self.at += usize::from(is);
        is
    }

    pub(super) fn name(&mut self) -> Result<String, Fault> {
        match self.next() {
            Some(Token::Name(name)) => Ok(name),
            _ => {
                self.at -= 1;
                self.fail(format!("expected a name, found {}", self.shown()))
            }
        }
    }

    pub(super) fn shown(&self) -> String {
        match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Name(n)) => format!("{n:?}"),
            Some(Token::Op(o)) => format!("{o:?}"),
            Some(Token::Text(_)) => "a string".to_owned(),
            Some(Token::Int(_) | Token::Float(_)) => "a number".to_owned(),
            Some(Token::BlockEnd) => "\"%}\"".to_owned(),
            Some(Token::PrintEnd) => "\"}}\"".to_owned(),
            Some(_) => "text".to_owned(),
        }
    }

    /// One level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        let out = parse(self);
        self.depth -= 1;
        out
    }

    /// Statements up to a tag of one of these names, which is left with its `{%` taken.
    fn nodes(&mut self, ends: &[&str]) -> Result<Vec<Node>, Fault> {
        self.deeper(|p| {
            let mut out = Vec::new();
            while let Some((token, line)) = p.tokens.get(p.at).cloned() {
                let kind = match token {
                    Token::Data(text) => {
                        p.at += 1;
                        Statement::Data(text)
                    }
                    Token::PrintBegin => {
                        p.at += 1;
                        let value = p.tuple()?;
                        p.expect(&Token::PrintEnd)?;
                        Statement::Print(value)
                    }
                    Token::BlockBegin => {
                        p.at += 1;
                        let Some(Token::Name(name)) = p.peek().cloned() else {
                            return p.fail("a tag has no name");
                        };
                        if ends.contains(&name.as_str()) {
                            return Ok(out);
                        }
                        p.at += 1;
                        let statement = p.statement(&name)?;
                        p.expect(&Token::BlockEnd)?;
                        statement
                    }
                    _ => return p.fail("unexpected token"),
                };
                out.push(Node { line, kind });
            }
            match ends {
                [] => Ok(out),
                _ => p.fail(format!("the end of the template, where {} was expected", ends.join(" or "))),
            }
        })
    }

    fn expect(&mut self, token: &Token) -> Result<(), Fault> {
        if self.peek() == Some(token) {
            self.at += 1;
            return Ok(());
        }
        let what = if *token == Token::BlockEnd { "%}" } else { "}}" };
        self.fail(format!("expected {what:?}, found {}", self.shown()))
    }

    /// The body of a tag that ends here, up to one of `ends`, whose name is taken and given.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Node>, String), Fault> {
        self.expect(&Token::BlockEnd)?;
        let nodes = self.nodes(ends)?;
        Ok((nodes, self.name()?))
    }

    fn statement(&mut self, name: &str) -> Result<Statement, Fault> {
        match name {
            "if" => self.conditional(),
            "for" => self.repeat(),
            "set" => self.set(),
            "macro" => {
                let name = self.name()?;
                Ok(Statement::Macro(self.macro_body(name, "endmacro")?))
            }
            "call" => {
                let parameters = if self.is_op("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call.kind, ExprKind::Call(..)) {
                    return self.fail("a call block needs a call");
                }
                let body = self.collect("caller".to_owned(), parameters, "endcall")?;
                Ok(Statement::CallBlock(call, body))
            }
            "filter" => {
                let filters = self.filters(None)?;
                let (body, _) = self.body(&["endfilter"])?;
                Ok(Statement::FilterBlock(filters, body))
            }
            "with" => self.with(),
            "print" => {
                let line = self.line();
                let mut parts = vec![self.expression()?];
                while self.take_op(",") {
                    parts.push(self.expression()?);
                }
                Ok(Statement::Print(Expr { line, kind: ExprKind::Concat(parts) }))
            }
            // Nothing is escaped anyway.
            "autoescape" if self.take_name("false") || self.take_name("False") => {
                Ok(Statement::Scope(self.body(&["endautoescape"])?.0))
            }
            "generation" => Ok(Statement::Scope(self.body(&["endgeneration"])?.0)),
            "block" => {
                self.name()?;
                while self.take_name("scoped") || self.take_name("required") {}
                let (body, _) = self.body(&["endblock"])?;
                if matches!(self.peek(), Some(Token::Name(_))) {
                    self.at += 1;
                }
                Ok(Statement::Scope(body))
            }
            "break" | "continue" if self.loops == 0 => self.fail(format!("{name} outside of a loop")),
            "break" => Ok(Statement::Break),
            "continue" => Ok(Statement::Continue),
            name if REFUSED.contains(&name) => self.fail(format!("the tag {name:?} is not supported")),
            name => self.fail(format!("there is no tag {name:?}")),
        }
    }

    fn conditional(&mut self) -> Result<Statement, Fault> {
        let mut arms = Vec::new();
        let mut condition = Some(self.tuple()?);
        loop {
            let ends: &[&str] = if condition.is_some() { &["elif", "else", "endif"] } else { &["endif"] };
            let (body, end) = self.body(ends)?;
            arms.push((condition, body));
            condition = match end.as_str() {
                "elif" => Some(self.tuple()?),
                "else" => None,
                _ => return Ok(Statement::If(arms)),
            };
        }
    }

    fn repeat(&mut self) -> Result<Statement, Fault> {
        let target = self.target(&["in"])?;
        if !self.take_name("in") {
            return self.fail("expected \"in\"");
        }
        let over = self.tuple_until(false, &["if", "recursive"])?;
        let only = if self.take_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.take_name("recursive");
        self.loops += 1;
        let (body, end) = self.body(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = if end == "else" { self.body(&["endfor"])?.0 } else { Vec::new() };
        Ok(Statement::For(Arc::new(For { target, over, only, recursive, body, otherwise })))
    }

    fn set(&mut self) -> Result<Statement, Fault> {
        let target = self.target(&[])?;
        if self.take_op("=") {
            return Ok(Statement::Set(target, self.tuple()?));
        }
        let filters = if self.is_op("|") { Some(self.filters_behind(None)?) } else { None };
        let (body, _) = self.body(&["endset"])?;
        Ok(Statement::SetBlock(target, filters, body))
    }

    fn with(&mut self) -> Result<Statement, Fault> {
        let mut values = Vec::new();
        while self.peek() != Some(&Token::BlockEnd) {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(&[])?;
            self.expect_op("=")?;
            values.push((target, self.expression()?));
        }
        Ok(Statement::With(values, self.body(&["endwith"])?.0))
    }

    fn macro_body(&mut self, name: String, end: &str) -> Result<Arc<Macro>, Fault> {
        let parameters = self.parameters()?;
        self.collect(name, parameters, end)
    }

    fn parameters(&mut self) -> Result<Vec<(String, Option<Expr>)>, Fault> {
        self.expect_op("(")?;
        let mut all: Vec<(String, Option<Expr>)> = Vec::new();
        while !self.take_op(")") {
            if !all.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.name()?;
            let default = if self.take_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && all.iter().any(|p| p.1.is_some()) {
                return self.fail("a parameter without a default follows one with a default");
            }
            all.push((name, default));
        }
        Ok(all)
    }

    fn collect(
        &mut self,
        name: String,
        parameters: Vec<(String, Option<Expr>)>,
        end: &str,
    ) -> Result<Arc<Macro>, Fault> {
        self.reads.push(BTreeSet::new());
        let loops = std::mem::take(&mut self.loops);
        let body = self.body(&[end]);
        self.loops = loops;
        let reads = self.reads.pop().unwrap_or_default();
        let (reads_varargs, reads_kwargs) = (reads.contains("varargs"), reads.contains("kwargs"));
        // A macro may end with its name.
        if end == "endmacro" && matches!(self.peek(), Some(Token::Name(_))) {
            self.at += 1;
        }
        Ok(Arc::new(Macro { name, parameters, body: body?.0, reads_varargs, reads_kwargs }))
    }

    /// Names to give values to, up to one of the words `ends`.
    fn target(&mut self, ends: &[&str]) -> Result<Target, Fault> {
        let mut all = vec![self.one_target()?];
        let mut tuple = false;
        while self.take_op(",") {
            tuple = true;
            if self.is_op("=") || ends.iter().any(|e| self.is_name(e)) {
                break;
            }
            all.push(self.one_target()?);
        }
        match (tuple, all.pop()) {
            (false, Some(one)) => Ok(one),
            (_, last) => {
                all.extend(last);
                Ok(Target::Tuple(all))
            }
        }
    }

    fn one_target(&mut self) -> Result<Target, Fault> {
        if self.take_op("(") {
            let inner = self.deeper(|p| p.target(&[]))?;
            self.expect_op(")")?;
            return Ok(match inner {
                Target::Tuple(all) => Target::Tuple(all),
                one => one,
            });
        }
        let name = self.name()?;
        if RESERVED.contains(&name.as_str()) || constant(&name).is_some() {
            return self.fail(format!("{name:?} cannot be given a value"));
        }
        match self.take_op(".") {
            true => Ok(Target::Field(name, self.name()?)),
            false => Ok(Target::Name(name)),
        }
    }

    pub(super) fn read(&mut self, name: &str) {
        for reads in &mut self.reads {
            reads.insert(name.to_owned());
        }
    }

    /// Filters as a filter block has them: `upper | trim`.
    fn filters(&mut self, value: Option<Box<Expr>>) -> Result<Expr, Fault> {
        let line = self.line();
        let mut name = self.name()?;
        while self.take_op(".") {
            name = format!("{name}.{}", self.name()?);
        }
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        let filter = Expr { line, kind: ExprKind::Filter(value, name, args) };
        self.filters_behind(Some(filter))
    }

    fn filters_behind(&mut self, first: Option<Expr>) -> Result<Expr, Fault> {
        let mut value = first.map(Box::new);
        let mut count = 0;
        while self.take_op("|") {
            let line = self.line();
            let mut name = self.name()?;
            while self.take_op(".") {
                name = format!("{name}.{}", self.name()?);
            }
            let args = if self.is_op("(") { self.args()? } else { Args::default() };
            value = Some(Box::new(Expr { line, kind: ExprKind::Filter(value, name, args) }));
            self.chain(&mut count)?;
        }
        match value {
            Some(value) => Ok(*value),
            None => self.fail("expected a filter"),
        }
    }

    /// Counts operands in a row, each of which nests the tree deeper by one.
    pub(super) fn chain(&self, count: &mut usize) -> Result<(), Fault> {
        *count += 1;
        if *count > MAX_CHAIN {
            return self.fail(format!("more than {MAX_CHAIN} operations in a row"));
        }
        Ok(())
    }
}
