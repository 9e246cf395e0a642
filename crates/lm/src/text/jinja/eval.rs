//! The evaluator: walks the tree, one charge per node.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::ast::{Args, Expr, Filter, For, Kind, Macro, Stmt, Target};
use super::call::{CallArgs, int, text};
use super::ops::{binary, compare, item, slice};
use super::value::{Loop, MacroValue, Meter, Namespace, Str, Value, build_dict};
use super::{Fault, TemplateLimits, filters, format, methods, tests};

/// The deepest nesting of statements, expressions and calls while running.
const DEEPEST: usize = 220;
/// The longest `range`, which is the limit of Jinja's sandbox.
const MOST_RANGE: i128 = 100_000;

/// How a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

type Frame = Vec<(Arc<str>, Value)>;
type Eval<T> = Result<T, Fault>;

/// One rendering.
pub(super) struct Interpreter<'a> {
    meter: Rc<Meter>,
    globals: Frame,
    /// Scopes, innermost last. The first is the template's own.
    frames: Vec<Frame>,
    /// Where the scopes of the running macro begin.
    base: usize,
    /// The output, and what is being captured.
    outputs: Vec<String>,
    written: usize,
    depth: usize,
    line: u32,
    /// Recursive loops and macros by number, so that values need not borrow the template.
    loops: BTreeMap<usize, &'a For>,
    macros: BTreeMap<usize, &'a Macro>,
    namespaces: Vec<Rc<Namespace>>,
    now: SystemTime,
    limits: TemplateLimits,
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

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
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
    fn capture<T>(&mut self, work: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<(String, T)> {
        let level = self.outputs.len();
        self.outputs.push(String::new());
        let done = work(self);
        let text = self.outputs.pop().unwrap_or_default();
        self.outputs.truncate(level);
        self.written -= text.len().min(self.written);
        Ok((text, done?))
    }

    fn block(&mut self, body: &'a [Stmt]) -> Eval<Flow> {
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

    fn for_loop(&mut self, code: &'a For, items: Value, depth: usize) -> Eval<Flow> {
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

    fn define(&mut self, name: &Arc<str>, value: Value) -> Eval<()> {
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

    fn eval(&mut self, expr: &Expr) -> Eval<Value> {
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

    fn args(&mut self, args: &Args) -> Eval<CallArgs> {
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

    fn loop_attribute(&mut self, value: &Value, state: &Rc<Loop>, name: &str) -> Eval<Value> {
        let (at, len) = (state.index.get(), state.items.items.len());
        let number = |n: usize| Ok(Value::Int(n as i128));
        match name {
            "index" => number(at + 1),
            "index0" => number(at),
            "revindex" => number(len - at),
            "revindex0" => number(len - at - 1),
            "length" => number(len),
            "depth" => number(state.depth + 1),
            "depth0" => number(state.depth),
            "first" => Ok(Value::Bool(at == 0)),
            "last" => Ok(Value::Bool(at + 1 == len)),
            "previtem" | "nextitem" => {
                let wanted = if name == "previtem" { at.checked_sub(1) } else { Some(at + 1) };
                let found = wanted.and_then(|i| state.items.items.get(i)).cloned();
                Ok(found.unwrap_or_else(|| Value::Undefined(Some(name.into()))))
            }
            _ if methods::exists(value, name) => methods::bind(value, name, &self.meter),
            _ => Ok(Value::Undefined(Some(name.into()))),
        }
    }

    fn call(&mut self, callee: &Value, args: CallArgs) -> Eval<Value> {
        self.meter.step()?;
        match callee {
            Value::Function(name) => self.function(name, args),
            Value::Method(bound) => match &bound.0 {
                Value::Loop(state) => self.loop_method(state, &bound.1, args),
                this => methods::call(this, &bound.1, args, &self.meter),
            },
            Value::Macro(code) => self.call_macro(code, args),
            Value::Loop(state) => {
                let known = state.code.and_then(|id| self.loops.get(&id).copied());
                let Some(code) = known else {
                    return Err(Fault::error("the loop is not marked as recursive"));
                };
                let [items] = args.bind("loop", ["iterable"])?;
                let items = items.ok_or_else(|| Fault::error("loop() needs an argument"))?;
                let depth = state.depth + 1;
                let (text, _) =
                    self.capture(|this| this.deeper(|this| this.for_loop(code, items, depth)))?;
                self.meter.str(text)
            }
            Value::Undefined(_) => Err(callee.undefined_fault()),
            other => Err(Fault::error(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    fn loop_method(&mut self, state: &Rc<Loop>, name: &str, args: CallArgs) -> Eval<Value> {
        if name == "cycle" {
            let n = args.positional.len();
            if n == 0 {
                return Err(Fault::error("no items for cycling given"));
            }
            return Ok(args.positional[state.index.get() % n].clone());
        }
        let now = self.meter.tuple(args.positional)?;
        let same = match &*state.changed.borrow() {
            Some(before) => before.equals(&now, &self.meter)?,
            None => false,
        };
        if !same {
            // A loop state is held by its own scope; holding values of bounded depth adds nothing.
            *state.changed.borrow_mut() = Some(now);
        }
        Ok(Value::Bool(!same))
    }

    fn call_macro(&mut self, code: &Rc<MacroValue>, mut args: CallArgs) -> Eval<Value> {
        let Some(&definition) = self.macros.get(&code.code) else {
            return Err(Fault::error("the macro is not defined here"));
        };
        let name = &definition.name;
        self.meter.work(code.captured.len() * 64)?;
        let mut frame: Frame = Vec::with_capacity(definition.params.len() + 1);
        let at = args.named.iter().position(|(key, _)| &**key == "caller");
        let caller = at.map(|at| args.named.swap_remove(at).1);
        if args.positional.len() > definition.params.len() {
            return Err(Fault::error(format!(
                "macro '{name}' takes not more than {} argument(s)",
                definition.params.len()
            )));
        }
        let mut positional = args.positional.into_iter();
        let mut missing: Vec<(Arc<str>, Option<&'a Expr>)> = Vec::new();
        for (param, default) in &definition.params {
            let named = args.named.iter().position(|(key, _)| key == param);
            match (positional.next(), named) {
                (Some(_), Some(_)) => {
                    return Err(Fault::error(format!(
                        "macro '{name}' got multiple values for argument '{param}'"
                    )));
                }
                (Some(value), None) => frame.push((Arc::clone(param), value)),
                (None, Some(at)) => {
                    let (key, value) = args.named.swap_remove(at);
                    frame.push((key, value));
                }
                (None, None) => missing.push((Arc::clone(param), default.as_ref())),
            }
        }
        if let Some((key, _)) = args.named.first() {
            return Err(Fault::error(format!("macro '{name}' takes no keyword argument '{key}'")));
        }
        if definition.uses_caller || caller.is_some() {
            let caller = caller.unwrap_or(Value::Undefined(Some("caller".into())));
            frame.push(("caller".into(), caller));
        }
        let (base, line, level) = (self.base, self.line, self.frames.len());
        self.base = level;
        self.frames.push(code.captured.clone());
        self.frames.push(frame);
        let done = self.capture(|this| {
            this.deeper(|this| {
                for (param, default) in missing {
                    let value = match default {
                        Some(default) => this.eval(default)?,
                        None => Value::Undefined(Some(Arc::clone(&param))),
                    };
                    this.define(&param, value)?;
                }
                this.block(&definition.body).map(|_| ())
            })
        });
        self.frames.truncate(level);
        self.base = base;
        let (text, ()) = done?;
        self.line = line;
        self.meter.str(text)
    }

    fn function(&mut self, name: &'static str, args: CallArgs) -> Eval<Value> {
        match name {
            "range" => {
                let [a, b, c] = args.bind(name, ["start", "stop", "step"])?;
                let a = a.ok_or_else(|| Fault::error("range expected at least 1 argument"))?;
                let a = int(name, Some(a), 0)?;
                let (start, stop) = match b {
                    Some(b) => (a, int(name, Some(b), 0)?),
                    None => (0, a),
                };
                let step = int(name, c, 1)?;
                if step == 0 {
                    return Err(Fault::error("range() arg 3 must not be zero"));
                }
                let span = if step > 0 { stop.checked_sub(start) } else { start.checked_sub(stop) };
                let span = span.ok_or_else(|| Fault::error("integer overflow"))?;
                let stride = step.unsigned_abs();
                let len = span.max(0).unsigned_abs().div_ceil(stride);
                if len > MOST_RANGE.unsigned_abs() {
                    return Err(Fault::error("a range may have at most 100000 items"));
                }
                self.meter.fits(len as usize * size_of::<Value>())?;
                self.meter.list((0..len as i128).map(|i| Value::Int(start + i * step)).collect())
            }
            "dict" => {
                let mut pairs = Vec::new();
                for value in args.positional {
                    match value {
                        Value::Dict(dict) => {
                            self.meter.fits(dict.items.len() * 2 * size_of::<Value>())?;
                            pairs.extend(dict.items.iter().cloned());
                        }
                        other => {
                            for pair in &other.iterate(&self.meter)?.items {
                                match &*pair.iterate(&self.meter)?.items {
                                    [key, value] => pairs.push((key.clone(), value.clone())),
                                    _ => return Err(Fault::error("dict() needs pairs")),
                                }
                            }
                        }
                    }
                }
                let named = args.named.into_iter();
                pairs.extend(named.map(|(name, value)| (Value::Str(Str::Literal(name)), value)));
                build_dict(pairs, &self.meter)
            }
            "namespace" => {
                let namespace = Rc::new(Namespace::default());
                // Charged like a small dictionary, for as long as the rendering runs.
                self.meter.fits(256 * (self.namespaces.len() + 1))?;
                self.namespaces.push(Rc::clone(&namespace));
                let mut fields = Vec::new();
                for value in args.positional {
                    let Value::Dict(dict) = value else {
                        return Err(Fault::error("namespace() takes a mapping"));
                    };
                    for (key, value) in &dict.items {
                        fields.push((text(name, key)?.into(), value.clone()));
                    }
                }
                fields.extend(args.named);
                *namespace.fields.borrow_mut() = fields;
                Ok(Value::Namespace(namespace))
            }
            "raise_exception" => {
                let [message] = args.bind(name, ["message"])?;
                let message = message.map_or(Ok(String::new()), |m| m.to_text(&self.meter))?;
                Err(Fault::Raised(message))
            }
            _ => {
                let [format] = args.bind(name, ["format"])?;
                let format = text(name, &format.unwrap_or(Value::None))?;
                self.meter.str(format::strftime(&format, self.now)?)
            }
        }
    }

    fn filter_chain(&mut self, filters: &[Filter], mut value: Value) -> Eval<Value> {
        for filter in filters {
            let args = self.args(&filter.args)?;
            value = self.filter(&filter.name, value, args)?;
        }
        Ok(value)
    }

    fn filter(&mut self, name: &str, value: Value, mut args: CallArgs) -> Eval<Value> {
        self.meter.step()?;
        match name {
            "map" => {
                let items = value.iterate(&self.meter)?;
                let at = args.named.iter().position(|(key, _)| &**key == "attribute");
                let mut out = Vec::with_capacity(items.items.len());
                if let Some(at) = at {
                    let attribute = args.named.swap_remove(at).1;
                    let default = args.named.pop().map(|(_, value)| value);
                    for item in &items.items {
                        let found = filters::path(item, &attribute, &self.meter)?;
                        out.push(match (&found, &default) {
                            (Value::Undefined(_), Some(default)) => default.clone(),
                            _ => found,
                        });
                    }
                } else {
                    if args.positional.is_empty() {
                        return Err(Fault::error("map requires a filter argument"));
                    }
                    let filter = text(name, &args.positional.remove(0))?;
                    for item in &items.items {
                        let args = CallArgs {
                            positional: args.positional.clone(),
                            named: args.named.clone(),
                        };
                        let mapped =
                            self.deeper(|this| this.filter(&filter, item.clone(), args))?;
                        out.push(mapped);
                    }
                }
                self.meter.list(out)
            }
            "select" | "reject" | "selectattr" | "rejectattr" => {
                let items = value.iterate(&self.meter)?;
                let mut given = args.positional.into_iter();
                let attribute = match name.ends_with("attr") {
                    true => Some(
                        given
                            .next()
                            .ok_or_else(|| Fault::error(format!("{name} needs an attribute")))?,
                    ),
                    false => None,
                };
                let test = match given.next() {
                    Some(test) => Some(text(name, &test)?),
                    None => None,
                };
                let rest: Vec<Value> = given.collect();
                let wanted = name.starts_with("select");
                let mut out = Vec::new();
                for item in &items.items {
                    let tested = match &attribute {
                        Some(attribute) => filters::path(item, attribute, &self.meter)?,
                        None => item.clone(),
                    };
                    let hit = match &test {
                        Some(test) => self.test(test, &tested, &rest)?,
                        None => tested.truthy(),
                    };
                    if hit == wanted {
                        out.push(item.clone());
                    }
                }
                self.meter.list(out)
            }
            _ => {
                if let (Value::Str(text), false) =
                    (&value, matches!(name, "trim" | "safe" | "string"))
                {
                    self.meter.scan(text.len())?;
                }
                filters::run(name, &value, args, &self.meter)?
                    .ok_or_else(|| Fault::error(format!("no filter named '{name}'")))
            }
        }
    }

    fn test(&mut self, name: &str, value: &Value, args: &[Value]) -> Eval<bool> {
        self.meter.step()?;
        tests::run(name, value, args, &self.meter)?
            .ok_or_else(|| Fault::error(format!("no test named '{name}'")))
    }
}
