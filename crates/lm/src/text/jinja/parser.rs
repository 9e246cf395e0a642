//! Jinja's grammar, by recursive descent with a depth limit, so that no template can exhaust the
//! stack: nesting costs a few small frames a level, and levels are counted.

use std::sync::Arc;

use super::Fault;
use super::ast::{Args, Binary, Compare, Expr, Filter, For, Kind, Macro, Stmt, Target, Text};
use super::lexer::{Tok, Token};

/// The deepest nesting of expressions and blocks.
const DEEPEST: usize = 100;

/// Parses a template.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Vec<Stmt>, Fault> {
    let mut parser = Parser { tokens, at: 0, depth: 0, loops: 0, callers: 0, ids: 0 };
    let body = parser.block(&[])?;
    Ok(body)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// How many loops are around, for `break` and `continue`.
    loops: usize,
    /// How often `caller` was named so far.
    callers: usize,
    /// How many loops and macros there are so far.
    ids: usize,
}

type Parsed<T> = Result<T, Fault>;

impl Parser {
    fn peek(&self) -> &Tok {
        // The last token is `End`, and nothing advances past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)].kind
    }

    fn peek2(&self) -> &Tok {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    fn line(&self) -> u32 {
        self.tokens[self.at.min(self.tokens.len() - 1)].line
    }

    fn next(&mut self) -> Tok {
        let token = self.peek().clone();
        if self.at < self.tokens.len() - 1 {
            self.at += 1;
        }
        token
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault::syntax(self.line(), reason)
    }

    fn unexpected(&self) -> Fault {
        self.fault(match self.peek() {
            Tok::Name(name) => format!("unexpected {name:?}"),
            Tok::Op(op) => format!("unexpected '{op}'"),
            Tok::Str(_) => "unexpected string".into(),
            Tok::Int(_) | Tok::Float(_) => "unexpected number".into(),
            Tok::Data(_) => "unexpected text".into(),
            Tok::End => "unexpected end of template".into(),
            _ => "unexpected end of tag".into(),
        })
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(found) if *found == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Tok::Name(found) if &**found == name)
    }

    fn skip_op(&mut self, op: &str) -> bool {
        let hit = self.is_op(op);
        if hit {
            self.next();
        }
        hit
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let hit = self.is_name(name);
        if hit {
            self.next();
        }
        hit
    }

    fn expect_op(&mut self, op: &str) -> Parsed<()> {
        if self.skip_op(op) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn name(&mut self) -> Parsed<Text> {
        match self.peek() {
            Tok::Name(name) => {
                let name = Arc::clone(name);
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn end_block(&mut self) -> Parsed<()> {
        match self.peek() {
            Tok::BlockEnd => {
                self.next();
                Ok(())
            }
            _ => Err(self.unexpected()),
        }
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEEPEST {
            return Err(self.fault("nested too deeply"));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    /// Statements up to a tag that `ends` names (which is left to be read), or the end.
    fn block(&mut self, ends: &[&str]) -> Parsed<Vec<Stmt>> {
        let mut out = Vec::new();
        loop {
            let line = self.line();
            match self.next() {
                Tok::Data(text) => out.push(Stmt { line, kind: Kind::Data(text) }),
                Tok::VariableBegin => {
                    let expr = self.tuple(true)?;
                    out.push(Stmt { line, kind: Kind::Print(expr) });
                    if !matches!(self.next(), Tok::VariableEnd) {
                        self.at = self.at.saturating_sub(1);
                        return Err(self.unexpected());
                    }
                }
                Tok::BlockBegin => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(out);
                    }
                    let kind = self.deeper(|parser| parser.statement())?;
                    out.push(Stmt { line, kind });
                }
                Tok::End if ends.is_empty() => return Ok(out),
                Tok::End => return Err(self.fault(format!("expected {}", ends.join(" or ")))),
                _ => {
                    self.at = self.at.saturating_sub(1);
                    return Err(self.unexpected());
                }
            }
        }
    }

    /// The body of a block statement and its end tag.
    fn body(&mut self, end: &str) -> Parsed<Vec<Stmt>> {
        self.end_block()?;
        let body = self.block(&[end])?;
        self.next();
        self.end_block()?;
        Ok(body)
    }

    fn statement(&mut self) -> Parsed<Kind> {
        let name = self.name()?;
        Ok(match &*name {
            "if" => return self.if_statement(),
            "for" => return self.for_statement(),
            "set" => {
                let target = self.target(true)?;
                if self.skip_op("=") {
                    let value = self.tuple(true)?;
                    self.end_block()?;
                    return Ok(Kind::Set(target, value));
                }
                let filters = self.filters()?;
                Kind::SetBlock { target, filters, body: self.body("endset")? }
            }
            "with" => {
                let mut bindings = Vec::new();
                while !matches!(self.peek(), Tok::BlockEnd) {
                    if !bindings.is_empty() {
                        self.expect_op(",")?;
                    }
                    let target = self.target(false)?;
                    self.expect_op("=")?;
                    bindings.push((target, self.expr()?));
                }
                Kind::With { bindings, body: self.body("endwith")? }
            }
            "macro" => {
                let name = self.name()?;
                let params = self.signature()?;
                Kind::Macro(self.macro_body(name, params, "endmacro")?)
            }
            "call" => {
                let params = if self.is_op("(") { self.signature()? } else { Vec::new() };
                let call = self.expr()?;
                if !matches!(call, Expr::Call(..)) {
                    return Err(self.fault("a call block needs a call"));
                }
                let block = self.macro_body("caller".into(), params, "endcall")?;
                Kind::CallBlock { call, block }
            }
            "filter" => {
                let mut filters = vec![self.filter()?];
                filters.extend(self.filters()?);
                Kind::FilterBlock { filters, body: self.body("endfilter")? }
            }
            "generation" => Kind::Plain(self.body("endgeneration")?),
            "do" => {
                let expr = self.tuple(true)?;
                self.end_block()?;
                Kind::Do(expr)
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(self.fault(format!("{name} outside of a loop")));
                }
                self.end_block()?;
                if &*name == "break" { Kind::Break } else { Kind::Continue }
            }
            "include" | "import" | "from" | "extends" | "block" => {
                return Err(self.fault(format!("a chat template is one file: no {name:?}")));
            }
            _ => return Err(self.fault(format!("unknown tag {name:?}"))),
        })
    }

    fn macro_body(
        &mut self,
        name: Text,
        params: Vec<(Text, Option<Expr>)>,
        end: &str,
    ) -> Parsed<Box<Macro>> {
        let (loops, callers) = (std::mem::take(&mut self.loops), self.callers);
        let body = self.body(end)?;
        self.loops = loops;
        self.ids += 1;
        let uses_caller = self.callers > callers;
        Ok(Box::new(Macro { id: self.ids, name, params, body, uses_caller }))
    }

    fn if_statement(&mut self) -> Parsed<Kind> {
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let test = self.tuple(true)?;
            self.end_block()?;
            arms.push((test, self.block(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.body("endif")?;
            } else {
                self.next();
                self.end_block()?;
            }
            return Ok(Kind::If { arms, otherwise });
        }
    }

    fn for_statement(&mut self) -> Parsed<Kind> {
        let target = self.target(false)?;
        if !self.skip_name("in") {
            return Err(self.unexpected());
        }
        let iter = self.tuple(false)?;
        let test = if self.skip_name("if") { Some(self.expr()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.end_block()?;
        self.loops += 1;
        let body = self.block(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = if self.skip_name("else") {
            self.body("endfor")?
        } else {
            self.next();
            self.end_block()?;
            Vec::new()
        };
        self.ids += 1;
        let id = self.ids;
        Ok(Kind::For(Box::new(For { id, target, iter, test, recursive, body, otherwise })))
    }

    fn signature(&mut self) -> Parsed<Vec<(Text, Option<Expr>)>> {
        self.expect_op("(")?;
        let mut params: Vec<(Text, Option<Expr>)> = Vec::new();
        while !self.is_op(")") {
            if !params.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.name()?;
            let default = if self.skip_op("=") { Some(self.expr()?) } else { None };
            if default.is_none() && params.last().is_some_and(|(_, d)| d.is_some()) {
                return Err(self.fault("a parameter without default follows one with"));
            }
            params.push((name, default));
        }
        self.next();
        Ok(params)
    }

    fn target(&mut self, namespace: bool) -> Parsed<Target> {
        let mut parts = Vec::new();
        let mut tuple = false;
        loop {
            if self.skip_op("(") {
                let inner = self.deeper(|parser| parser.target(namespace))?;
                self.expect_op(")")?;
                parts.push(inner);
            } else {
                let name = self.name()?;
                if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
                    return Err(self.fault("can't assign to a constant"));
                }
                if namespace && self.skip_op(".") {
                    parts.push(Target::Attr(name, self.name()?));
                } else {
                    parts.push(Target::Name(name));
                }
            }
            if !self.skip_op(",") {
                break;
            }
            tuple = true;
            if self.is_name("in") || self.is_op("=") || self.is_op(")") {
                break;
            }
        }
        match parts.pop() {
            Some(one) if !tuple => Ok(one),
            Some(last) => {
                parts.push(last);
                Ok(Target::Tuple(parts))
            }
            None => Err(self.unexpected()),
        }
    }

    /// One expression, or several with commas between.
    fn tuple(&mut self, conditional: bool) -> Parsed<Expr> {
        let one = |parser: &mut Self| {
            if conditional { parser.expr() } else { parser.deeper(|parser| parser.or()) }
        };
        let first = one(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op(",") {
            if self.ends_tuple() {
                break;
            }
            parts.push(one(self)?);
        }
        Ok(Expr::Tuple(parts))
    }

    fn ends_tuple(&self) -> bool {
        matches!(self.peek(), Tok::VariableEnd | Tok::BlockEnd | Tok::End)
            || self.is_op(")")
            || self.is_name("recursive")
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.deeper(|parser| {
            let mut expr = parser.or()?;
            let mut chain = 0;
            while parser.skip_name("if") {
                parser.long_chain(&mut chain)?;
                let test = parser.or()?;
                let otherwise = match parser.skip_name("else") {
                    true => Some(Box::new(parser.expr()?)),
                    false => None,
                };
                expr = Expr::Cond(Box::new(test), Box::new(expr), otherwise);
            }
            Ok(expr)
        })
    }

    /// Chains of operators nest to the left, and are walked by recursion.
    fn long_chain(&self, length: &mut usize) -> Parsed<()> {
        *length += 1;
        if *length > DEEPEST {
            return Err(self.fault("an expression is too long"));
        }
        Ok(())
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        let mut chain = 0;
        while self.skip_name("or") {
            self.long_chain(&mut chain)?;
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.not()?;
        let mut chain = 0;
        while self.skip_name("and") {
            self.long_chain(&mut chain)?;
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed<Expr> {
        if self.skip_name("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.not()?))));
        }
        let left = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Tok::Op("==") => Compare::Eq,
                Tok::Op("!=") => Compare::Ne,
                Tok::Op("<") => Compare::Lt,
                Tok::Op("<=") => Compare::Le,
                Tok::Op(">") => Compare::Gt,
                Tok::Op(">=") => Compare::Ge,
                Tok::Name(name) if &**name == "in" => Compare::In,
                Tok::Name(name)
                    if &**name == "not"
                        && matches!(self.peek2(), Tok::Name(next) if &**next == "in") =>
                {
                    self.next();
                    Compare::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((op, self.sum()?));
        }
        Ok(if rest.is_empty() { left } else { Expr::Compare(Box::new(left), rest) })
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.concat()?;
        let mut chain = 0;
        loop {
            let op = match self.peek() {
                Tok::Op("+") => Binary::Add,
                Tok::Op("-") => Binary::Sub,
                _ => return Ok(left),
            };
            self.long_chain(&mut chain)?;
            self.next();
            left = Expr::Binary(op, Box::new(left), Box::new(self.concat()?));
        }
    }

    fn concat(&mut self) -> Parsed<Expr> {
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(Expr::Concat(parts))
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.unary(true)?;
        let mut chain = 0;
        loop {
            let op = match self.peek() {
                Tok::Op("*") => Binary::Mul,
                Tok::Op("/") => Binary::Div,
                Tok::Op("//") => Binary::FloorDiv,
                Tok::Op("%") => Binary::Mod,
                // Jinja's power binds like the others to its left, and tighter.
                Tok::Op("**") => {
                    self.long_chain(&mut chain)?;
                    self.next();
                    let right = self.unary(true)?;
                    left = raise_last(left, right);
                    continue;
                }
                _ => return Ok(left),
            };
            self.long_chain(&mut chain)?;
            self.next();
            let mut right = self.unary(true)?;
            while self.skip_op("**") {
                self.long_chain(&mut chain)?;
                let exponent = self.unary(true)?;
                right = Expr::Binary(Binary::Pow, Box::new(right), Box::new(exponent));
            }
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self, filters: bool) -> Parsed<Expr> {
        let mut node = if self.skip_op("-") {
            Expr::Neg(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Pos(Box::new(self.deeper(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut chain = 0;
        loop {
            if self.is_op(".") || self.is_op("[") {
                node = self.subscript(node)?;
            } else if self.is_op("(") {
                let args = self.args()?;
                node = Expr::Call(Box::new(node), Box::new(args));
            } else {
                break;
            }
            self.long_chain(&mut chain)?;
        }
        while filters {
            if self.skip_op("|") {
                let filter = self.filter()?;
                node = Expr::Filter(Box::new(node), Box::new(filter));
            } else if self.skip_name("is") {
                node = self.test(node)?;
            } else if self.is_op("(") {
                let args = self.args()?;
                node = Expr::Call(Box::new(node), Box::new(args));
            } else {
                break;
            }
            self.long_chain(&mut chain)?;
        }
        Ok(node)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        Ok(match self.next() {
            Tok::Name(name) => match &*name {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => {
                    self.callers += usize::from(&*name == "caller");
                    Expr::Name(name)
                }
            },
            Tok::Str(text) => {
                let mut text = text;
                while let Tok::Str(more) = self.peek() {
                    text = format!("{text}{more}").into();
                    self.next();
                }
                Expr::Str(text)
            }
            Tok::Int(value) => Expr::Int(value),
            Tok::Float(value) => Expr::Float(value),
            Tok::Op("(") => {
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple(true)?;
                self.expect_op(")")?;
                inner
            }
            Tok::Op("[") => {
                let mut items = Vec::new();
                while !self.skip_op("]") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.skip_op("]") {
                            break;
                        }
                    }
                    items.push(self.expr()?);
                }
                Expr::List(items)
            }
            Tok::Op("{") => {
                let mut items = Vec::new();
                while !self.skip_op("}") {
                    if !items.is_empty() {
                        self.expect_op(",")?;
                        if self.skip_op("}") {
                            break;
                        }
                    }
                    let key = self.expr()?;
                    self.expect_op(":")?;
                    items.push((key, self.expr()?));
                }
                Expr::Dict(items)
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.unexpected());
            }
        })
    }

    fn subscript(&mut self, node: Expr) -> Parsed<Expr> {
        if self.skip_op(".") {
            if let Tok::Int(index) = *self.peek() {
                self.next();
                return Ok(Expr::Item(Box::new(node), Box::new(Expr::Int(index))));
            }
            return Ok(Expr::Attr(Box::new(node), self.name()?));
        }
        self.next();
        let mut bounds = [None, None, None];
        let mut part = 0;
        loop {
            if self.skip_op(":") {
                part += 1;
                if part > 2 {
                    return Err(self.unexpected());
                }
            } else if self.is_op("]") {
                break;
            } else if bounds[part].is_none() {
                bounds[part] = Some(self.expr()?);
            } else {
                return Err(self.unexpected());
            }
        }
        self.next();
        if part > 0 {
            return Ok(Expr::Slice(Box::new(node), Box::new(bounds)));
        }
        let [index, _, _] = bounds;
        let index = index.ok_or_else(|| self.fault("expected a subscript"))?;
        Ok(Expr::Item(Box::new(node), Box::new(index)))
    }

    fn args(&mut self) -> Parsed<Args> {
        self.expect_op("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.skip_op(")") {
            if !std::mem::take(&mut first) {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            if self.skip_op("*") {
                args.star = Some(self.expr()?);
            } else if self.skip_op("**") {
                args.star_star = Some(self.expr()?);
            } else if matches!(self.peek(), Tok::Name(_)) && *self.peek2() == Tok::Op("=") {
                let name = self.name()?;
                self.next();
                args.named.push((name, self.expr()?));
            } else if args.named.is_empty() && args.star.is_none() && args.star_star.is_none() {
                args.positional.push(self.expr()?);
            } else {
                return Err(self.fault("invalid syntax for a function call"));
            }
        }
        Ok(args)
    }

    fn filter(&mut self) -> Parsed<Filter> {
        let name = self.name()?;
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        Ok(Filter { name, args })
    }

    fn filters(&mut self) -> Parsed<Vec<Filter>> {
        let mut filters = Vec::new();
        while self.skip_op("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn test(&mut self, value: Expr) -> Parsed<Expr> {
        let negated = self.skip_name("not");
        let name = self.name()?;
        let starts_value = match self.peek() {
            Tok::Name(name) => !matches!(&**name, "else" | "or" | "and" | "is" | "if"),
            Tok::Str(_) | Tok::Int(_) | Tok::Float(_) => true,
            Tok::Op(op) => matches!(*op, "[" | "{"),
            _ => false,
        };
        let args = if self.is_op("(") {
            self.args()?
        } else if starts_value {
            let mut operand = self.deeper(|parser| parser.primary())?;
            let mut chain = 0;
            while self.is_op(".") || self.is_op("[") || self.is_op("(") {
                self.long_chain(&mut chain)?;
                operand = if self.is_op("(") {
                    let args = self.args()?;
                    Expr::Call(Box::new(operand), Box::new(args))
                } else {
                    self.subscript(operand)?
                };
            }
            Args { positional: vec![operand], ..Args::default() }
        } else {
            Args::default()
        };
        Ok(Expr::Test { value: Box::new(value), name, args: Box::new(args), negated })
    }
}

/// `a * b ** c` is `a * (b ** c)`, and `a ** b ** c` is `(a ** b) ** c`.
fn raise_last(left: Expr, exponent: Expr) -> Expr {
    Expr::Binary(Binary::Pow, Box::new(left), Box::new(exponent))
}
