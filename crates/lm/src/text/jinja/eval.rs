//! The evaluator: walks the tree, one charge per node.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::ast::{Args, Expr, For, Kind, Macro, Stmt, Target};
use super::call::{CallArgs, int, text};
use super::ops::{binary, compare, item, slice};
use super::value::{Loop, MacroValue, Meter, Namespace, Str, Value, build_dict};
use super::{Fault, TemplateLimits, filters, methods};

/// The deepest nesting of statements, expressions and calls while running.
const DEEPEST: usize = 220;

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) type Frame = Vec<(Arc<str>, Value)>;
pub(super) type Eval<T> = Result<T, Fault>;

/// One rendering.
pub(super) struct Interpreter<'a> {
    pub(super) meter: Rc<Meter>,
    pub(super) globals: Frame,
    /// Scopes, innermost last. The first is the template's own.
    pub(super) frames: Vec<Frame>,
    /// Where the scopes of the running macro begin.
    pub(super) base: usize,
    /// The output, and what is being captured.
    pub(super) outputs: Vec<String>,
    pub(super) written: usize,
    pub(super) depth: usize,
    pub(super) line: u32,
    /// Recursive loops and macros by number, so that values need not borrow the template.
    pub(super) loops: BTreeMap<usize, &'a For>,
    pub(super) macros: BTreeMap<usize, &'a Macro>,
    pub(super) namespaces: Vec<Rc<Namespace>>,
    pub(super) now: SystemTime,
    pub(super) limits: TemplateLimits,
}

impl Drop for Interpreter<'_> {
    fn drop(&mut self) {
        // Only namespaces can hold each other in a circle; emptied, they cannot.
        for namespace in &self.namespaces {
            namespace.fields.borrow_mut().clear();
        }
    }
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(
        meter: Rc<Meter>,
        globals: Frame,
        now: SystemTime,
        limits: TemplateLimits,
    ) -> Self {
        Interpreter {
            meter,
            globals,
            frames: vec![Frame::new()],
            base: 1,
            outputs: vec![String::new()],
            written: 0,
            depth: 0,
            line: 1,
            loops: BTreeMap::new(),
            macros: BTreeMap::new(),
            namespaces: Vec::new(),
            now,
            limits,
        }
    }

    pub(super) fn run(&mut self, body: &'a [Stmt]) -> Result<String, (u32, Fault)> {
        self.block(body).map_err(|fault| (self.line, fault))?;
        Ok(self.outputs.pop().unwrap_or_default())
    }

    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
        if self.depth >= DEEPEST {
            return Err(Fault::error("the template nests too deeply"));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    fn write(&mut self, text: &str) -> Eval<()> {
        self.meter.work(text.len())?;
        self.written += text.len();
        if self.written > self.limits.output_bytes {
            return Err(Fault::TooLarge {
                what: "the prompt",
                size: self.written,
                limit: self.limits.output_bytes,
            });
        }
        if let Some(out) = self.outputs.last_mut() {
            out.push_str(text);
        }
        Ok(())
    }

    /// Runs work whose output becomes a value.
    pub(super) fn capture<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Eval<T>,
    ) -> Eval<(String, T)> {
        let level = self.outputs.len();
        self.outputs.push(String::new());
        let done = work(self);
        let text = self.outputs.pop().unwrap_or_default();
        self.outputs.truncate(level);
        self.written -= text.len().min(self.written);
        Ok((text, done?))
    }

    pub(super) fn block(&mut self, body: &'a [Stmt]) -> Eval<Flow> {
        for stmt in body {
            self.meter.step()?;
            self.line = stmt.line;
            let flow = self.deeper(|this| this.statement(stmt))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn scoped<T>(&mut self, work: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
        let level = self.frames.len();
        self.frames.push(Frame::new());
        let done = work(self);
        self.frames.truncate(level);
        done
    }

    fn statement(&mut self, stmt: &'a Stmt) -> Eval<Flow> {
        match &stmt.kind {
            Kind::Data(text) => self.write(text)?,
            Kind::Print(expr) => {
                let value = self.eval(expr)?;
                match &value {
                    Value::Str(text) => self.write(text)?,
                    Value::Undefined(_) => {}
                    other => {
                        let text = other.to_text(&self.meter)?;
                        self.write(&text)?;
                    }
                }
            }
            Kind::If { arms, otherwise } => {
                for (test, body) in arms {
                    if self.eval(test)?.truthy() {
                        return self.block(body);
                    }
                }
                return self.block(otherwise);
            }
            Kind::For(code) => {
                let items = self.eval(&code.iter)?;
                return self.for_loop(code, items, 0);
            }
            Kind::Set(target, expr) => {
                let value = self.eval(expr)?;
                self.assign(target, value)?;
            }
            Kind::SetBlock { target, filters, body } => {
                let (text, flow) = self.capture(|this| this.scoped(|this| this.block(body)))?;
                let value = self.meter.str(text)?;
                let value = self.filter_chain(filters, value)?;
                self.assign(target, value)?;
                return Ok(flow);
            }
            Kind::With { bindings, body } => {
                return self.scoped(|this| {
                    for (target, expr) in bindings {
                        let value = this.eval(expr)?;
                        this.assign(target, value)?;
                    }
                    this.block(body)
                });
            }
            Kind::Macro(code) => {
                let value = self.closure(code)?;
                self.define(&code.name, value)?;
            }
            Kind::CallBlock { call, block } => {
                let Expr::Call(callee, args) = call else { return Ok(Flow::Next) };
                let caller = self.closure(block)?;
                let callee = self.eval(callee)?;
                let mut args = self.args(args)?;
                args.named.push(("caller".into(), caller));
                let value = self.call(&callee, args)?;
                let text = value.to_text(&self.meter)?;
                self.write(&text)?;
            }
            Kind::FilterBlock { filters, body } => {
                let (text, flow) = self.capture(|this| this.scoped(|this| this.block(body)))?;
                let value = self.meter.str(text)?;
                let value = self.filter_chain(filters, value)?;
                let text = value.to_text(&self.meter)?;
                self.write(&text)?;
                return Ok(flow);
            }
            Kind::Plain(body) => return self.scoped(|this| this.block(body)),
            Kind::Do(expr) => {
                self.eval(expr)?;
            }
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    pub(super) fn for_loop(&mut self, code: &'a For, items: Value, depth: usize) -> Eval<Flow> {
        let mut items = items.iterate(&self.meter)?;
        if let Some(test) = &code.test {
            let mut kept = Vec::new();
            for item in &items.items {
                self.meter.step()?;
                let hit = self.scoped(|this| {
                    this.assign(&code.target, item.clone())?;
                    Ok(this.eval(test)?.truthy())
                })?;
                if hit {
                    kept.push(item.clone());
                }
            }
            items = self.meter.list(kept)?.iterate(&self.meter)?;
        }
        if items.items.is_empty() {
            return self.scoped(|this| this.block(&code.otherwise));
        }
        if code.recursive {
            self.loops.insert(code.id, code);
        }
        let state = Rc::new(Loop {
            items: Rc::clone(&items),
            index: Cell::new(0),
            depth,
            changed: RefCell::new(None),
            code: code.recursive.then_some(code.id),
        });
        self.scoped(|this| {
            let name: Arc<str> = "loop".into();
            for (i, item) in items.items.iter().enumerate() {
                this.meter.step()?;
                state.index.set(i);
                if let Some(frame) = this.frames.last_mut() {
                    frame.clear();
                    frame.push((Arc::clone(&name), Value::Loop(Rc::clone(&state))));
                }
                this.assign(&code.target, item.clone())?;
                if this.block(&code.body)? == Flow::Break {
                    break;
                }
            }
            Ok(Flow::Next)
        })
    }

    fn assign(&mut self, target: &Target, value: Value) -> Eval<()> {
        match target {
            Target::Name(name) => self.define(name, value),
            Target::Attr(name, field) => {
                let Value::Namespace(namespace) = self.lookup(name)? else {
                    return Err(Fault::error("cannot assign attribute on non-namespace object"));
                };
                // A field costs what a dictionary entry does, and a depth is the value's own.
                Value::holder_depth([&value].into_iter())?;
                let mut fields = namespace.fields.borrow_mut();
                self.meter.work(fields.len() * 16)?;
                match fields.iter_mut().find(|(known, _)| known == field) {
                    Some(slot) => slot.1 = value,
                    None => fields.push((Arc::clone(field), value)),
                }
                Ok(())
            }
            Target::Tuple(targets) => {
                let items = value.iterate(&self.meter)?;
                if items.items.len() != targets.len() {
                    return Err(Fault::error(format!(
                        "cannot unpack {} values into {}",
                        items.items.len(),
                        targets.len()
                    )));
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn define(&mut self, name: &Arc<str>, value: Value) -> Eval<()> {
        if let Some(frame) = self.frames.last_mut() {
            match frame.iter_mut().find(|(known, _)| known == name) {
                Some(slot) => slot.1 = value,
                None => frame.push((Arc::clone(name), value)),
            }
        }
        Ok(())
    }

    fn lookup(&self, name: &Arc<str>) -> Eval<Value> {
        let inner = self.frames[self.base.min(self.frames.len())..].iter().rev();
        let mut steps = 0;
        for frame in inner.chain(self.frames.first()).chain([&self.globals]) {
            steps += frame.len();
            if let Some((_, value)) = frame.iter().find(|(known, _)| known == name) {
                self.meter.work(steps * 8)?;
                return Ok(value.clone());
            }
        }
        Ok(match &**name {
            "range" => Value::Function("range"),
            "dict" => Value::Function("dict"),
            "namespace" => Value::Function("namespace"),
            "raise_exception" => Value::Function("raise_exception"),
            "strftime_now" => Value::Function("strftime_now"),
            _ => Value::Undefined(Some(Arc::clone(name))),
        })
    }

    /// A macro with what is around it here.
    fn closure(&mut self, code: &'a Macro) -> Eval<Value> {
        let mut captured: Frame = Vec::new();
        for frame in &self.frames[self.base.min(self.frames.len())..] {
            self.meter.work(frame.len() * 64)?;
            for (name, value) in frame {
                match captured.iter_mut().find(|(known, _)| known == name) {
                    Some(slot) => slot.1 = value.clone(),
                    None => captured.push((Arc::clone(name), value.clone())),
                }
            }
        }
        let depth = Value::holder_depth(captured.iter().map(|(_, value)| value))?;
        self.macros.insert(code.id, code);
        let name = Arc::clone(&code.name);
        Ok(Value::Macro(Rc::new(MacroValue { code: code.id, name, captured, depth })))
    }

    pub(super) fn eval(&mut self, expr: &Expr) -> Eval<Value> {
        self.meter.step()?;
        match expr {
            Expr::None => return Ok(Value::None),
            Expr::Bool(b) => return Ok(Value::Bool(*b)),
            Expr::Int(n) => return Ok(Value::Int(*n)),
            Expr::Float(x) => return Ok(Value::Float(*x)),
            Expr::Str(text) => return Ok(Value::Str(Str::Literal(Arc::clone(text)))),
            Expr::Name(name) => return self.lookup(name),
            _ => {}
        }
        self.deeper(|this| this.compound(expr))
    }

    fn compound(&mut self, expr: &Expr) -> Eval<Value> {
        match expr {
            Expr::List(items) => {
                let items = self.all(items)?;
                self.meter.list(items)
            }
            Expr::Tuple(items) => {
                let items = self.all(items)?;
                self.meter.tuple(items)
            }
            Expr::Dict(items) => {
                let mut pairs = Vec::with_capacity(items.len());
                for (key, value) in items {
                    pairs.push((self.eval(key)?, self.eval(value)?));
                }
                build_dict(pairs, &self.meter)
            }
            Expr::Attr(value, name) => {
                let value = self.eval(value)?;
                self.attribute(&value, name)
            }
            Expr::Item(value, index) => {
                let value = self.eval(value)?;
                let index = self.eval(index)?;
                item(&value, &index, &self.meter)
            }
            Expr::Slice(value, bounds) => {
                let value = self.eval(value)?;
                let mut found = [None, None, None];
                for (slot, bound) in found.iter_mut().zip(bounds.iter()) {
                    if let Some(bound) = bound {
                        let bound = self.eval(bound)?;
                        *slot = match bound {
                            Value::None => None,
                            other => Some(int("slice", Some(other), 0)?),
                        };
                    }
                }
                slice(&value, found, &self.meter)
            }
            Expr::Call(callee, args) => {
                let callee = self.eval(callee)?;
                let args = self.args(args)?;
                self.call(&callee, args)
            }
            Expr::Filter(value, filter) => {
                let value = self.eval(value)?;
                let args = self.args(&filter.args)?;
                self.filter(&filter.name, value, args)
            }
            Expr::Test { value, name, args, negated } => {
                let value = self.eval(value)?;
                let args = self.args(args)?;
                Ok(Value::Bool(self.test(name, &value, &args.positional)? != *negated))
            }
            Expr::Not(value) => Ok(Value::Bool(!self.eval(value)?.truthy())),
            Expr::Neg(value) => match self.eval(value)? {
                Value::Float(x) => Ok(Value::Float(-x)),
                other => {
                    let n = int("-", Some(other), 0)?.checked_neg();
                    n.map(Value::Int).ok_or_else(|| Fault::error("integer overflow"))
                }
            },
            Expr::Pos(value) => match self.eval(value)? {
                Value::Float(x) => Ok(Value::Float(x)),
                other => Ok(Value::Int(int("+", Some(other), 0)?)),
            },
            Expr::Binary(op, left, right) => {
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                binary(*op, &left, &right, &self.meter)
            }
            Expr::Concat(parts) => {
                let mut out = String::new();
                for part in parts {
                    self.eval(part)?.write_str(&mut out, &self.meter)?;
                }
                self.meter.str(out)
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    if !compare(*op, &left, &right, &self.meter)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::And(left, right) => {
                let left = self.eval(left)?;
                if left.truthy() { self.eval(right) } else { Ok(left) }
            }
            Expr::Or(left, right) => {
                let left = self.eval(left)?;
                if left.truthy() { Ok(left) } else { self.eval(right) }
            }
            Expr::Cond(test, then, otherwise) => {
                if self.eval(test)?.truthy() {
                    self.eval(then)
                } else if let Some(otherwise) = otherwise {
                    self.eval(otherwise)
                } else {
                    Ok(Value::Undefined(None))
                }
            }
            leaf => self.eval(leaf),
        }
    }

    fn all(&mut self, exprs: &[Expr]) -> Eval<Vec<Value>> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    pub(super) fn args(&mut self, args: &Args) -> Eval<CallArgs> {
        let mut out = CallArgs::new(self.all(&args.positional)?);
        if let Some(star) = &args.star {
            let star = self.eval(star)?.iterate(&self.meter)?;
            self.meter.fits(star.items.len() * size_of::<Value>())?;
            out.positional.extend_from_slice(&star.items);
        }
        for (name, value) in &args.named {
            out.named.push((Arc::clone(name), self.eval(value)?));
        }
        if let Some(star_star) = &args.star_star {
            let Value::Dict(dict) = self.eval(star_star)? else {
                return Err(Fault::error("argument after ** must be a mapping"));
            };
            self.meter.fits(dict.items.len() * 2 * size_of::<Value>())?;
            for (key, value) in &dict.items {
                out.named.push((text("**", key)?.into(), value.clone()));
            }
        }
        Ok(out)
    }

    fn attribute(&mut self, value: &Value, name: &Arc<str>) -> Eval<Value> {
        match value {
            Value::Loop(state) => self.loop_attribute(value, state, name),
            Value::Macro(code) if &**name == "name" => {
                Ok(Value::Str(Str::Literal(Arc::clone(&code.name))))
            }
            // Python finds methods before items.
            _ if methods::exists(value, name) => methods::bind(value, name, &self.meter),
            _ => filters::attribute_of(value, name, &self.meter),
        }
    }
}
