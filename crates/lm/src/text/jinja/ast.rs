//! What a template is made of once it is parsed.

use std::sync::Arc;

/// A name or a piece of literal text.
pub(super) type Text = Arc<str>;

/// An expression.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    Name(Text),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attr(Box<Expr>, Text),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Box<Args>),
    Filter(Box<Expr>, Box<Filter>),
    Test {
        value: Box<Expr>,
        name: Text,
        args: Box<Args>,
        negated: bool,
    },
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// Condition, value if true, value if false.
    Cond(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
}

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// The arguments of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Text, Expr)>,
    pub(super) star: Option<Expr>,
    pub(super) star_star: Option<Expr>,
}

/// A filter and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub(super) name: Text,
    pub(super) args: Args,
}

/// What an assignment assigns to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Name(Text),
    Attr(Text, Text),
    Tuple(Vec<Target>),
}

/// A statement and its line.
#[derive(Debug, Clone)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: Kind,
}

/// What a statement does.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Data(Text),
    Print(Expr),
    If {
        arms: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    For(Box<For>),
    Set(Target, Expr),
    SetBlock {
        target: Target,
        filters: Vec<Filter>,
        body: Vec<Stmt>,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Vec<Stmt>,
    },
    Macro(Box<Macro>),
    CallBlock {
        call: Expr,
        block: Box<Macro>,
    },
    FilterBlock {
        filters: Vec<Filter>,
        body: Vec<Stmt>,
    },
    /// A block that only marks its text, as `{% generation %}` does.
    Plain(Vec<Stmt>),
    Do(Expr),
    Break,
    Continue,
}

/// A loop.
#[derive(Debug, Clone)]
pub(super) struct For {
    /// A number of its own.
    pub(super) id: usize,
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) test: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

/// A macro, or the body of a call block.
#[derive(Debug, Clone)]
pub(super) struct Macro {
    /// A number of its own.
    pub(super) id: usize,
    pub(super) name: Text,
    pub(super) params: Vec<(Text, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
    pub(super) uses_caller: bool,
}
