//! Jinja's grammar, by recursive descent with a depth limit, so that no template can exhaust the
//! stack: nesting costs a few small frames a level, and levels are counted.

use std::sync::Arc;

use super::Fault;
use super::ast::{Expr, For, Kind, Macro, Stmt, Target, Text};
use super::lexer::{Tok, Token};

/// The deepest nesting of expressions and blocks.
pub(super) const DEEPEST: usize = 100;

/// Parses a template.
pub(super) fn parse(tokens: Vec<Token>) -> Result<Vec<Stmt>, Fault> {
    let mut parser = Parser { tokens, at: 0, depth: 0, loops: 0, callers: 0, ids: 0 };
    let body = parser.block(&[])?;
    Ok(body)
}

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    pub(super) depth: usize,
    /// How many loops are around, for `break` and `continue`.
    pub(super) loops: usize,
    /// How often `caller` was named so far.
    pub(super) callers: usize,
    /// How many loops and macros there are so far.
    pub(super) ids: usize,
}

pub(super) type Parsed<T> = Result<T, Fault>;

impl Parser {
    pub(super) fn peek(&self) -> &Tok {
        // The last token is `End`, and nothing advances past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)].kind
    }

    pub(super) fn peek2(&self) -> &Tok {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at.min(self.tokens.len() - 1)].line
    }

    pub(super) fn next(&mut self) -> Tok {
        let token = self.peek().clone();
        if self.at < self.tokens.len() - 1 {
            self.at += 1;
        }
        token
    }

    pub(super) fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault::syntax(self.line(), reason)
    }

    pub(super) fn unexpected(&self) -> Fault {
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

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(found) if *found == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Tok::Name(found) if &**found == name)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let hit = self.is_op(op);
        if hit {
            self.next();
        }
        hit
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let hit = self.is_name(name);
        if hit {
            self.next();
        }
        hit
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Parsed<()> {
        if self.skip_op(op) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(super) fn name(&mut self) -> Parsed<Text> {
        match self.peek() {
            Tok::Name(name) => {
                let name = Arc::clone(name);
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn end_block(&mut self) -> Parsed<()> {
        match self.peek() {
            Tok::BlockEnd => {
                self.next();
                Ok(())
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEEPEST {
            return Err(self.fault("nested too deeply"));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    /// Statements up to a tag that `ends` names (which is left to be read), or the end.
    pub(super) fn block(&mut self, ends: &[&str]) -> Parsed<Vec<Stmt>> {
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
    pub(super) fn body(&mut self, end: &str) -> Parsed<Vec<Stmt>> {
        self.end_block()?;
        let body = self.block(&[end])?;
        self.next();
        self.end_block()?;
        Ok(body)
    }

    pub(super) fn statement(&mut self) -> Parsed<Kind> {
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

    pub(super) fn macro_body(
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

    pub(super) fn if_statement(&mut self) -> Parsed<Kind> {
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

    pub(super) fn for_statement(&mut self) -> Parsed<Kind> {
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

    pub(super) fn signature(&mut self) -> Parsed<Vec<(Text, Option<Expr>)>> {
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

    pub(super) fn target(&mut self, namespace: bool) -> Parsed<Target> {
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
}
