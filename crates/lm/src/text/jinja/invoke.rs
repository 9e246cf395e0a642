//! Calls: macros, functions, methods, filters and tests, and the `loop` variable.

use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Expr, Filter};
use super::call::{CallArgs, int, text};
use super::eval::{Eval, Frame, Interpreter};
use super::value::{Loop, MacroValue, Namespace, Str, Value, build_dict};
use super::{Fault, filters, format, methods, tests};

/// The longest `range`, which is the limit of Jinja's sandbox.
const MOST_RANGE: i128 = 100_000;

impl<'a> Interpreter<'a> {
    pub(super) fn loop_attribute(
        &mut self,
        value: &Value,
        state: &Rc<Loop>,
        name: &str,
    ) -> Eval<Value> {
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

    pub(super) fn call(&mut self, callee: &Value, args: CallArgs) -> Eval<Value> {
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

    pub(super) fn loop_method(
        &mut self,
        state: &Rc<Loop>,
        name: &str,
        args: CallArgs,
    ) -> Eval<Value> {
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

    pub(super) fn call_macro(&mut self, code: &Rc<MacroValue>, mut args: CallArgs) -> Eval<Value> {
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

    pub(super) fn function(&mut self, name: &'static str, args: CallArgs) -> Eval<Value> {
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

    pub(super) fn filter_chain(&mut self, filters: &[Filter], mut value: Value) -> Eval<Value> {
        for filter in filters {
            let args = self.args(&filter.args)?;
            value = self.filter(&filter.name, value, args)?;
        }
        Ok(value)
    }

    pub(super) fn filter(&mut self, name: &str, value: Value, mut args: CallArgs) -> Eval<Value> {
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

    pub(super) fn test(&mut self, name: &str, value: &Value, args: &[Value]) -> Eval<bool> {
        self.meter.step()?;
        tests::run(name, value, args, &self.meter)?
            .ok_or_else(|| Fault::error(format!("no test named '{name}'")))
    }
}
