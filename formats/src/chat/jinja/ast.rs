//! What a template is once it is parsed.

/// An expression and the line it begins on.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: usize,
    pub(super) kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    Const(Const),
    Name(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Binary(&'static str, Box<(Expr, Expr)>),
    And(Box<(Expr, Expr)>),
    Or(Box<(Expr, Expr)>),
    /// The parts of `a ~ b ~ c`.
    Concat(Vec<Expr>),
    /// `a < b <= c`, `a in b`, `a not in b`.
    Compare(Box<Expr>, Vec<(&'static str, Expr)>),
    /// Value, condition, else.
    If(Box<(Expr, Expr, Option<Expr>)>),
    /// `a.b`
    Field(Box<Expr>, String),
    /// `a[b]`
    Item(Box<(Expr, Expr)>),
    /// `a[b:c:d]`
    Slice(Box<(Expr, [Option<Expr>; 3])>),
    Call(Box<Expr>, Args),
    /// `a | NAME(args)`; without a value inside of a filter block.
    Filter(Option<Box<Expr>>, String, Args),
    /// `a is NAME(args)`
    Test(Box<Expr>, String, Args),
}

#[derive(Debug, Clone)]
pub(super) enum Const {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(std::sync::Arc<str>),
}

/// What a call is given.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    /// `*a` and `**a`
    pub(super) more: Option<Box<Expr>>,
    pub(super) more_named: Option<Box<Expr>>,
}

/// What a value is given to.
#[derive(Debug)]
pub(super) enum Target {
    Name(String),
    /// `namespace.field`
    Field(String, String),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: String,
    /// Names with their defaults.
    pub(super) parameters: Vec<(String, Option<Expr>)>,
    pub(super) body: Vec<Node>,
    /// Whether the body has these names, which collect what no parameter takes.
    pub(super) reads_varargs: bool,
    pub(super) reads_kwargs: bool,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) only: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Statement,
}

#[derive(Debug)]
pub(super) enum Statement {
    Data(String),
    Print(Expr),
    /// Conditions with what follows each; the last may have none.
    If(Vec<(Option<Expr>, Vec<Node>)>),
    For(std::sync::Arc<For>),
    Set(Target, Expr),
    /// What the body prints, through filters.
    SetBlock(Target, Option<Expr>, Vec<Node>),
    Macro(std::sync::Arc<Macro>),
    /// A call that gets its body as `caller`.
    CallBlock(Expr, std::sync::Arc<Macro>),
    FilterBlock(Expr, Vec<Node>),
    With(Vec<(Target, Expr)>, Vec<Node>),
    /// A body with names of its own.
    Scope(Vec<Node>),
    Break,
    Continue,
}
