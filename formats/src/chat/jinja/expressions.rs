//! Expressions, by rank: conditions bind loosest, then `or`, `and`, `not`, comparisons, `+`, `~`, `*`, `**`, signs,
//! and closest what stands behind a value.

use super::Fault;
use super::ast::{Args, Const, Expr, ExprKind};
use super::lexer::Token;
use super::parser::{Parser, RESERVED};

impl Parser {
    /// One expression, or several with commas between them, which make a tuple.
    pub(super) fn tuple(&mut self) -> Result<Expr, Fault> {
        self.tuple_until(true, &[])
    }

    /// As [`Parser::tuple`], up to one of the words `ends`; without conditions where those end it.
    pub(super) fn tuple_until(&mut self, conditional: bool, ends: &[&str]) -> Result<Expr, Fault> {
        let line = self.line();
        let one = |p: &mut Parser| if conditional { p.expression() } else { p.deeper(|p| p.either()) };
        let mut all = vec![one(self)?];
        let mut tuple = false;
        while self.take_op(",") {
            tuple = true;
            let over = matches!(self.peek(), Some(Token::PrintEnd | Token::BlockEnd) | None)
                || self.is_op(")")
                || ends.iter().any(|e| self.is_name(e));
            if over {
                break;
            }
            all.push(one(self)?);
        }
        match (tuple, all.pop()) {
            (false, Some(one)) => Ok(one),
            (_, last) => {
                all.extend(last);
                Ok(Expr { line, kind: ExprKind::Tuple(all) })
            }
        }
    }

    /// `a if b else c`
    pub(super) fn expression(&mut self) -> Result<Expr, Fault> {
        self.deeper(|p| {
            let line = p.line();
            let mut value = p.either()?;
            let mut count = 0;
            while p.take_name("if") {
                let condition = p.either()?;
                let otherwise = if p.take_name("else") { Some(p.expression()?) } else { None };
                value = Expr { line, kind: ExprKind::If(Box::new((value, condition, otherwise))) };
                p.chain(&mut count)?;
            }
            Ok(value)
        })
    }

    fn either(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let mut value = self.both()?;
        let mut count = 0;
        while self.take_name("or") {
            value = Expr { line, kind: ExprKind::Or(Box::new((value, self.both()?))) };
            self.chain(&mut count)?;
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let mut value = self.negation()?;
        let mut count = 0;
        while self.take_name("and") {
            value = Expr { line, kind: ExprKind::And(Box::new((value, self.negation()?))) };
            self.chain(&mut count)?;
        }
        Ok(value)
    }

    fn negation(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        match self.take_name("not") {
            true => Ok(Expr { line, kind: ExprKind::Not(Box::new(self.deeper(Parser::negation)?)) }),
            false => self.comparison(),
        }
    }

    fn comparison(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Some(Token::Op(op @ ("==" | "!=" | "<" | "<=" | ">" | ">="))) => *op,
                Some(Token::Name(n)) if n == "in" => "in",
                Some(Token::Name(n)) if n == "not" => match self.tokens.get(self.at + 1) {
                    Some((Token::Name(n), _)) if n == "in" => {
                        self.at += 1;
                        "not in"
                    }
                    _ => break,
                },
                _ => break,
            };
            self.at += 1;
            rest.push((op, self.sum()?));
        }
        match rest.is_empty() {
            true => Ok(first),
            false => Ok(Expr { line, kind: ExprKind::Compare(Box::new(first), rest) }),
        }
    }

    /// Operators of one rank, from the left.
    fn ranked(
        &mut self,
        ops: &[&'static str],
        inner: fn(&mut Parser) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        let line = self.line();
        let mut value = inner(self)?;
        let mut count = 0;
        while let Some(op) = ops.iter().find(|op| self.is_op(op)) {
            self.at += 1;
            value = Expr { line, kind: ExprKind::Binary(op, Box::new((value, inner(self)?))) };
            self.chain(&mut count)?;
        }
        Ok(value)
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        self.ranked(&["+", "-"], Parser::concat)
    }

    fn concat(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let mut parts = vec![self.product()?];
        while self.take_op("~") {
            parts.push(self.product()?);
        }
        match (parts.len(), parts.pop()) {
            (1, Some(one)) => Ok(one),
            (_, last) => {
                parts.extend(last);
                Ok(Expr { line, kind: ExprKind::Concat(parts) })
            }
        }
    }

    fn product(&mut self) -> Result<Expr, Fault> {
        self.ranked(&["*", "/", "//", "%"], Parser::power)
    }

    fn power(&mut self) -> Result<Expr, Fault> {
        self.ranked(&["**"], |p| p.unary(true))
    }

    fn unary(&mut self, filtered: bool) -> Result<Expr, Fault> {
        let line = self.line();
        let value = if self.take_op("-") {
            Expr { line, kind: ExprKind::Negative(Box::new(self.deeper(|p| p.unary(false))?)) }
        } else if self.take_op("+") {
            Expr { line, kind: ExprKind::Positive(Box::new(self.deeper(|p| p.unary(false))?)) }
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if filtered { self.filtered(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let line = self.line();
        let kind = match self.next() {
            Some(Token::Name(name)) => match constant(&name) {
                Some(value) => ExprKind::Const(value),
                None if RESERVED.contains(&name.as_str()) => {
                    return self.fail(format!("unexpected {name:?}"));
                }
                None => {
                    self.read(&name);
                    ExprKind::Name(name)
                }
            },
            Some(Token::Text(mut text)) => {
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                ExprKind::Const(Const::Text(text.into()))
            }
            Some(Token::Int(i)) => ExprKind::Const(Const::Int(i)),
            Some(Token::Float(x)) => ExprKind::Const(Const::Float(x)),
            Some(Token::Op("(")) if self.take_op(")") => ExprKind::Tuple(Vec::new()),
            Some(Token::Op("(")) => {
                let inner = self.tuple()?;
                self.expect_op(")")?;
                return Ok(inner);
            }
            Some(Token::Op("[")) => {
                let mut items = Vec::new();
                while !self.take_op("]") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.take_op("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                ExprKind::List(items)
            }
            Some(Token::Op("{")) => self.dict()?,
            _ => {
                self.at -= 1;
                return self.fail(format!("unexpected {}", self.shown()));
            }
        };
        Ok(Expr { line, kind })
    }

    fn dict(&mut self) -> Result<ExprKind, Fault> {
        let mut items = Vec::new();
        while !self.take_op("}") {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.take_op("}") {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect_op(":")?;
            items.push((key, self.expression()?));
        }
        Ok(ExprKind::Dict(items))
    }

    /// Fields, items and calls.
    fn postfix(&mut self, mut value: Expr) -> Result<Expr, Fault> {
        let mut count = 0;
        loop {
            let line = self.line();
            let kind = if self.take_op(".") {
                match self.next() {
                    Some(Token::Name(name)) => ExprKind::Field(Box::new(value), name),
                    Some(Token::Int(i)) => {
                        let index = Expr { line, kind: ExprKind::Const(Const::Int(i)) };
                        ExprKind::Item(Box::new((value, index)))
                    }
                    _ => return self.fail("expected a name or a number behind \".\""),
                }
            } else if self.take_op("[") {
                self.subscript(value)?
            } else if self.is_op("(") {
                ExprKind::Call(Box::new(value), self.args()?)
            } else {
                return Ok(value);
            };
            value = Expr { line, kind };
            self.chain(&mut count)?;
        }
    }

    /// What stands in brackets behind a value.
    fn subscript(&mut self, value: Expr) -> Result<ExprKind, Fault> {
        let mut parts: [Option<Expr>; 3] = [None, None, None];
        let mut colons = 0;
        while !self.take_op("]") {
            if self.take_op(":") {
                colons += 1;
                if colons > 2 {
                    return self.fail("a slice has at most two colons");
                }
                continue;
            }
            if parts[colons].is_some() {
                return self.fail("expected \"]\"");
            }
            let part = self.expression()?;
            parts[colons] = Some(match self.is_op(",") && colons == 0 {
                true => self.index_tuple(part)?,
                false => part,
            });
        }
        match (colons, parts) {
            (0, [Some(index), None, None]) => Ok(ExprKind::Item(Box::new((value, index)))),
            (0, _) => self.fail("expected an index"),
            (_, parts) => Ok(ExprKind::Slice(Box::new((value, parts)))),
        }
    }

    /// Several indices, which make a tuple.
    fn index_tuple(&mut self, first: Expr) -> Result<Expr, Fault> {
        let line = self.line();
        let mut all = vec![first];
        while self.take_op(",") && !self.is_op("]") {
            all.push(self.expression()?);
        }
        Ok(Expr { line, kind: ExprKind::Tuple(all) })
    }

    /// Filters, tests and calls behind them.
    fn filtered(&mut self, mut value: Expr) -> Result<Expr, Fault> {
        let mut count = 0;
        loop {
            let line = self.line();
            if self.take_op("|") {
                let mut name = self.name()?;
                while self.take_op(".") {
                    name = format!("{name}.{}", self.name()?);
                }
                let args = if self.is_op("(") { self.args()? } else { Args::default() };
                value = Expr { line, kind: ExprKind::Filter(Some(Box::new(value)), name, args) };
            } else if self.take_name("is") {
                value = self.test(value, line)?;
            } else if self.is_op("(") {
                value = Expr { line, kind: ExprKind::Call(Box::new(value), self.args()?) };
            } else {
                return Ok(value);
            }
            self.chain(&mut count)?;
        }
    }

    fn test(&mut self, value: Expr, line: usize) -> Result<Expr, Fault> {
        let negated = self.take_name("not");
        let mut name = self.name()?;
        while self.take_op(".") {
            name = format!("{name}.{}", self.name()?);
        }
        let takes = match self.peek() {
            Some(Token::Name(n)) if n == "is" => return self.fail("tests cannot follow each other"),
            Some(Token::Name(n)) => !["else", "or", "and"].contains(&n.as_str()),
            Some(Token::Text(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{")) => true,
            _ => false,
        };
        let args = if self.is_op("(") {
            self.args()?
        } else if takes {
            let value = self.deeper(Parser::primary)?;
            Args { positional: vec![self.postfix(value)?], ..Args::default() }
        } else {
            Args::default()
        };
        let test = Expr { line, kind: ExprKind::Test(Box::new(value), name, args) };
        Ok(if negated { Expr { line, kind: ExprKind::Not(Box::new(test)) } } else { test })
    }

    pub(super) fn args(&mut self) -> Result<Args, Fault> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.take_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.take_op(")") {
                    break;
                }
            }
            first = false;
            let twice = || "arguments are spread more than once";
            if self.take_op("**") {
                if args.more_named.is_some() {
                    return self.fail(twice());
                }
                args.more_named = Some(Box::new(self.expression()?));
            } else if self.take_op("*") {
                if args.more.is_some() {
                    return self.fail(twice());
                }
                args.more = Some(Box::new(self.expression()?));
            } else if let (Some(Token::Name(name)), Some((Token::Op("="), _))) =
                (self.peek().cloned(), self.tokens.get(self.at + 1))
            {
                self.at += 2;
                args.named.push((name, self.expression()?));
            } else {
                if !args.named.is_empty() {
                    return self.fail("an argument without a name follows one with a name");
                }
                args.positional.push(self.expression()?);
            }
        }
        Ok(args)
    }
}

/// What `true`, `none` and their like stand for.
pub(super) fn constant(name: &str) -> Option<Const> {
    Some(match name {
        "true" | "True" => Const::Bool(true),
        "false" | "False" => Const::Bool(false),
        "none" | "None" => Const::None,
        _ => return None,
    })
}
