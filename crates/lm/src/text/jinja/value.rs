//! Values of a template, and the meter that they and all work on them are charged to.
//!
//! Lists and dictionaries are immutable, as in Jinja's immutable sandbox: only a namespace can be
//! assigned to. So values cannot be cyclic except through a namespace, and those are emptied when
//! the rendering ends. A container knows how deep it is, which bounds every recursion over values; a
//! list can still share its elements many times over, so walks over values are charged step by step.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::format::{float_repr, str_repr};
use super::{Fault, Quote, TemplateLimits};

/// The deepest nesting of lists and dictionaries.
const DEEPEST: u32 = 100;

/// Counts what a rendering uses.
#[derive(Debug)]
pub(super) struct Meter {
    limits: TemplateLimits,
    used: Cell<u64>,
    live: Cell<usize>,
    peak: Cell<usize>,
}

impl Meter {
    pub(super) fn new(limits: TemplateLimits) -> Self {
        Meter { limits, used: Cell::new(0), live: Cell::new(0), peak: Cell::new(0) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.get()
    }

    pub(super) fn peak(&self) -> usize {
        self.peak.get()
    }

    /// One step of the interpreter.
    pub(super) fn step(&self) -> Result<(), Fault> {
        self.steps(1)
    }

    fn steps(&self, n: u64) -> Result<(), Fault> {
        let used = self.used.get().saturating_add(n);
        self.used.set(used);
        if used > self.limits.fuel { Err(Fault::TooExpensive) } else { Ok(()) }
    }

    /// Work that goes over this many bytes.
    pub(super) fn work(&self, bytes: usize) -> Result<(), Fault> {
        self.steps(bytes as u64 / 64)
    }

    /// Work that looks at every character of so many bytes.
    pub(super) fn scan(&self, bytes: usize) -> Result<(), Fault> {
        self.steps(bytes as u64 / 8)
    }

    /// Asks whether a value of this size may be built.
    pub(super) fn fits(&self, bytes: usize) -> Result<(), Fault> {
        let (size, limit) = (self.live.get().saturating_add(bytes), self.limits.live_bytes);
        if size > limit {
            return Err(Fault::TooLarge { what: "the memory of the chat template", size, limit });
        }
        self.work(bytes)
    }

    fn charge(self: &Rc<Self>, bytes: usize) -> Result<Charge, Fault> {
        self.fits(bytes)?;
        self.live.set(self.live.get() + bytes);
        self.peak.set(self.peak.get().max(self.live.get()));
        Ok(Charge { meter: Rc::clone(self), bytes })
    }

    pub(super) fn str(self: &Rc<Self>, text: String) -> Result<Value, Fault> {
        let charge = self.charge(text.len() + 48)?;
        Ok(Value::Str(Str::Owned(Rc::new(OwnedStr { text: text.into(), _charge: charge }))))
    }

    pub(super) fn list(self: &Rc<Self>, items: Vec<Value>) -> Result<Value, Fault> {
        self.sequence(items, false)
    }

    pub(super) fn tuple(self: &Rc<Self>, items: Vec<Value>) -> Result<Value, Fault> {
        self.sequence(items, true)
    }

    fn sequence(self: &Rc<Self>, items: Vec<Value>, tuple: bool) -> Result<Value, Fault> {
        let charge = self.charge(items.len() * size_of::<Value>() + 64)?;
        let depth = deepest(items.iter())?;
        Ok(Value::List(Rc::new(List { items, tuple, depth, _charge: charge })))
    }

    pub(super) fn dict(self: &Rc<Self>, items: Vec<(Value, Value)>) -> Result<Value, Fault> {
        let charge = self.charge(items.len() * 2 * size_of::<Value>() + 64)?;
        let depth = deepest(items.iter().map(|(_, value)| value))?;
        Ok(Value::Dict(Rc::new(Dict { items, depth, _charge: charge })))
    }
}

fn deepest<'a>(items: impl Iterator<Item = &'a Value>) -> Result<u32, Fault> {
    let depth = items.map(Value::depth).max().unwrap_or(0) + 1;
    if depth > DEEPEST {
        return Err(Fault::error("a value is nested too deeply"));
    }
    Ok(depth)
}

/// Bytes that are alive as long as this is.
#[derive(Debug)]
struct Charge {
    meter: Rc<Meter>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.live.set(self.meter.live.get().saturating_sub(self.bytes));
    }
}

/// A string: a literal of the template, or one that was made.
#[derive(Debug, Clone)]
pub(in crate::text) enum Str {
    Literal(Arc<str>),
    Owned(Rc<OwnedStr>),
}

#[derive(Debug)]
pub(in crate::text) struct OwnedStr {
    text: Box<str>,
    _charge: Charge,
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Str::Literal(text) => text,
            Str::Owned(owned) => &owned.text,
        }
    }
}

/// A list or a tuple.
#[derive(Debug)]
pub(in crate::text) struct List {
    pub(super) items: Vec<Value>,
    pub(super) tuple: bool,
    depth: u32,
    _charge: Charge,
}

/// A dictionary in insertion order.
#[derive(Debug)]
pub(in crate::text) struct Dict {
    pub(super) items: Vec<(Value, Value)>,
    depth: u32,
    _charge: Charge,
}

impl Dict {
    /// Looks a text key up, without a meter: dictionaries of messages are small.
    pub(super) fn get_str(&self, key: &str) -> Option<&Value> {
        self.items.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }
}

/// What `namespace()` makes: the one thing that can be assigned to.
#[derive(Debug, Default)]
pub(in crate::text) struct Namespace {
    pub(super) fields: RefCell<Vec<(Arc<str>, Value)>>,
}

/// A macro with the variables that were around it.
#[derive(Debug)]
pub(in crate::text) struct MacroValue {
    pub(super) code: usize,
    pub(super) name: Arc<str>,
    pub(super) captured: Vec<(Arc<str>, Value)>,
    pub(super) depth: u32,
}

/// The `loop` variable.
#[derive(Debug)]
pub(in crate::text) struct Loop {
    pub(super) items: Rc<List>,
    pub(super) index: Cell<usize>,
    pub(super) depth: usize,
    pub(super) changed: RefCell<Option<Value>>,
    /// For a recursive loop, which loop it is.
    pub(super) code: Option<usize>,
}

/// A value.
#[derive(Debug, Clone)]
pub(in crate::text) enum Value {
    /// What a missing name or key gives; holds what was asked for.
    Undefined(Option<Arc<str>>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Str),
    List(Rc<List>),
    Dict(Rc<Dict>),
    Namespace(Rc<Namespace>),
    Macro(Rc<MacroValue>),
    Loop(Rc<Loop>),
    /// A global function.
    Function(&'static str),
    /// A method and what it belongs to.
    Method(Rc<(Value, Arc<str>)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(Str::Literal(text.into()))
    }
}

impl Value {
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    fn depth(&self) -> u32 {
        match self {
            Value::List(list) => list.depth,
            Value::Dict(dict) => dict.depth,
            Value::Macro(code) => code.depth,
            Value::Method(bound) => bound.0.depth(),
            _ => 0,
        }
    }

    /// The depth that holding this value gives.
    pub(super) fn holder_depth<'a>(values: impl Iterator<Item = &'a Value>) -> Result<u32, Fault> {
        deepest(values)
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(list) if list.tuple => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Namespace(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Loop(_) => "LoopContext",
            Value::Function(_) => "function",
            Value::Method(_) => "method",
        }
    }

    pub(super) fn truthy(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Dict(dict) => !dict.items.is_empty(),
            _ => true,
        }
    }

    /// The error of using an undefined value.
    pub(super) fn undefined_fault(&self) -> Fault {
        match self {
            Value::Undefined(Some(name)) => Fault::error(format!("'{name}' is undefined")),
            _ => Fault::error("value is undefined"),
        }
    }

    /// An integer, where Python takes one (booleans are).
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Bool(b) => Some(i128::from(*b)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }

    /// `str(value)`, appended.
    pub(super) fn write_str(&self, out: &mut String, meter: &Meter) -> Result<(), Fault> {
        match self {
            Value::Undefined(_) => Ok(()),
            Value::Str(text) => {
                meter.fits(out.len() + text.len())?;
                out.push_str(text);
                Ok(())
            }
            other => other.write_repr(out, meter),
        }
    }

    pub(super) fn to_text(&self, meter: &Meter) -> Result<String, Fault> {
        let mut out = String::new();
        self.write_str(&mut out, meter)?;
        Ok(out)
    }

    /// `repr(value)`, appended. Shared elements are written each time, so every one is charged.
    pub(super) fn write_repr(&self, out: &mut String, meter: &Meter) -> Result<(), Fault> {
        meter.step()?;
        if out.len() > 1 << 12 {
            meter.fits(out.len())?;
        }
        let done = match self {
            Value::Undefined(_) => out.write_str("Undefined"),
            Value::None => out.write_str("None"),
            Value::Bool(true) => out.write_str("True"),
            Value::Bool(false) => out.write_str("False"),
            Value::Int(n) => write!(out, "{n}"),
            Value::Float(x) => out.write_str(&float_repr(*x)),
            Value::Str(text) => {
                meter.fits(out.len() + text.len() * 2)?;
                str_repr(text, out);
                Ok(())
            }
            Value::List(list) => {
                out.push(if list.tuple { '(' } else { '[' });
                for (i, item) in list.items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    item.write_repr(out, meter)?;
                }
                if list.tuple && list.items.len() == 1 {
                    out.push(',');
                }
                out.write_char(if list.tuple { ')' } else { ']' })
            }
            Value::Dict(dict) => {
                out.push('{');
                for (i, (key, value)) in dict.items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    key.write_repr(out, meter)?;
                    out.push_str(": ");
                    value.write_repr(out, meter)?;
                }
                out.write_char('}')
            }
            Value::Namespace(_) => out.write_str("<Namespace>"),
            Value::Macro(code) => write!(out, "<Macro {:?}>", &*code.name),
            Value::Loop(_) => out.write_str("<LoopContext>"),
            Value::Function(name) => write!(out, "<function {name}>"),
            Value::Method(bound) => write!(out, "<method {}>", bound.1),
        };
        done.map_err(|_| Fault::error("could not print a value"))
    }

    /// The elements, where Python can iterate.
    pub(super) fn iterate(&self, meter: &Rc<Meter>) -> Result<Rc<List>, Fault> {
        let items = match self {
            Value::List(list) => return Ok(Rc::clone(list)),
            Value::Undefined(_) => Vec::new(),
            Value::Dict(dict) => dict.items.iter().map(|(key, _)| key.clone()).collect(),
            Value::Str(text) => {
                // Charged before it is built: each character becomes a value.
                meter.fits(text.chars().count() * (size_of::<Value>() + 80))?;
                let chars = text.chars().map(|c| meter.str(c.to_string()));
                chars.collect::<Result<_, _>>()?
            }
            Value::Loop(state) => state.items.items[state.index.get()..].to_vec(),
            other => {
                return Err(Fault::error(format!(
                    "'{}' object is not iterable",
                    other.type_name()
                )));
            }
        };
        match meter.list(items)? {
            Value::List(list) => Ok(list),
            _ => Err(Fault::error("not iterable")),
        }
    }

    /// `len(value)`.
    pub(super) fn length(&self, meter: &Meter) -> Result<usize, Fault> {
        Ok(match self {
            Value::Undefined(_) => 0,
            Value::Str(text) => {
                meter.work(text.len())?;
                text.chars().count()
            }
            Value::List(list) => list.items.len(),
            Value::Dict(dict) => dict.items.len(),
            other => {
                return Err(Fault::error(format!(
                    "object of type '{}' has no len()",
                    other.type_name()
                )));
            }
        })
    }

    /// `a == b`.
    pub(super) fn equals(&self, other: &Value, meter: &Meter) -> Result<bool, Fault> {
        meter.step()?;
        Ok(match (self, other) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                meter.work(a.len())?;
                **a == **b
            }
            (Value::List(a), Value::List(b)) => {
                if a.tuple != b.tuple || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (key, value) in &a.items {
                    match lookup(b, key, meter)? {
                        Some(other) if value.equals(other, meter)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
            (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => a == b,
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => match (a.as_float(), b.as_float()) {
                    (Some(a), Some(b)) => a == b,
                    _ => false,
                },
            },
        })
    }

    /// The order of two values, where Python orders them.
    pub(super) fn order(
        &self,
        other: &Value,
        meter: &Meter,
    ) -> Result<Option<std::cmp::Ordering>, Fault> {
        meter.step()?;
        Ok(match (self, other) {
            (Value::Str(a), Value::Str(b)) => {
                meter.work(a.len().min(b.len()))?;
                // UTF-8 sorts like code points.
                Some(a.as_bytes().cmp(b.as_bytes()))
            }
            (Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b, meter)? {
                        return a.order(b, meter);
                    }
                }
                Some(a.items.len().cmp(&b.items.len()))
            }
            (a, b) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => match (a.as_float(), b.as_float()) {
                    (Some(a), Some(b)) => a.partial_cmp(&b),
                    _ => {
                        if a.is_undefined() {
                            return Err(a.undefined_fault());
                        }
                        return Err(Fault::error(format!(
                            "'<' not supported between instances of '{}' and '{}'",
                            a.type_name(),
                            b.type_name()
                        )));
                    }
                },
            },
        })
    }

    /// `item in self`.
    pub(super) fn contains(&self, item: &Value, meter: &Rc<Meter>) -> Result<bool, Fault> {
        match self {
            Value::Str(text) => match item {
                Value::Str(part) => {
                    meter.work(text.len() + part.len())?;
                    Ok(text.contains(&**part))
                }
                Value::Undefined(_) => Err(item.undefined_fault()),
                other => Err(Fault::error(format!(
                    "'in <string>' requires string as left operand, not {}",
                    other.type_name()
                ))),
            },
            Value::Dict(dict) => Ok(lookup(dict, item, meter)?.is_some()),
            other => {
                for value in &other.iterate(meter)?.items {
                    if value.equals(item, meter)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// Looks a key up in a dictionary.
pub(super) fn lookup<'a>(
    dict: &'a Dict,
    key: &Value,
    meter: &Meter,
) -> Result<Option<&'a Value>, Fault> {
    for (candidate, value) in &dict.items {
        if candidate.equals(key, meter)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Builds a dictionary; a later key replaces an earlier equal one in place.
pub(super) fn build_dict(pairs: Vec<(Value, Value)>, meter: &Rc<Meter>) -> Result<Value, Fault> {
    let mut out: Vec<(Value, Value)> = Vec::with_capacity(pairs.len().min(1024));
    for (key, value) in pairs {
        match key {
            Value::List(ref list) if list.tuple => {}
            Value::List(_) | Value::Dict(_) => {
                return Err(Fault::error(format!("unhashable type: '{}'", key.type_name())));
            }
            _ => {}
        }
        let mut slot = None;
        for (i, (known, _)) in out.iter().enumerate() {
            if known.equals(&key, meter)? {
                slot = Some(i);
                break;
            }
        }
        match slot {
            Some(i) => out[i].1 = value,
            None => out.push((key, value)),
        }
    }
    meter.dict(out)
}

/// A JSON value as a template sees it.
pub(super) fn from_json(
    value: &serde_json::Value,
    meter: &Rc<Meter>,
    quote: Quote<'_>,
    depth: u32,
) -> Result<Value, Fault> {
    use serde_json::Value as Json;
    meter.step()?;
    if depth > DEEPEST {
        return Err(Fault::error("a value is nested too deeply"));
    }
    Ok(match value {
        Json::Null => Value::None,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::Int(n.into()),
            (None, Some(n)) => Value::Int(n.into()),
            _ => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => {
            meter.fits(text.len())?;
            meter.str(quote(text).unwrap_or_else(|| text.clone()))?
        }
        Json::Array(items) => {
            meter.fits(items.len() * size_of::<Value>())?;
            let items = items.iter().map(|item| from_json(item, meter, quote, depth + 1));
            meter.list(items.collect::<Result<_, _>>()?)?
        }
        Json::Object(items) => {
            meter.fits(items.len() * 2 * size_of::<Value>())?;
            let mut out = Vec::with_capacity(items.len());
            for (key, value) in items {
                let key = quote(key).unwrap_or_else(|| key.clone());
                out.push((meter.str(key)?, from_json(value, meter, quote, depth + 1)?));
            }
            // JSON objects have each key once.
            meter.dict(out)?
        }
    })
}
