//! `tojson` as Hugging Face defines it: Python's `json.dumps` with `ensure_ascii=False` by default,
//! `indent`, `separators` and `sort_keys`, and no HTML escaping. Models were trained on exactly these
//! bytes (`", "` and `": "`).

use std::fmt::Write as _;

use super::Fault;
use super::format::float_repr;
use super::value::{Meter, Value};

/// How `json.dumps` is called.
#[derive(Debug, Clone, Default)]
pub(super) struct Dumps {
    pub(super) ensure_ascii: bool,
    pub(super) indent: Option<String>,
    /// Between items, and between key and value.
    pub(super) separators: Option<(String, String)>,
    pub(super) sort_keys: bool,
}

impl Dumps {
    pub(super) fn dump(&self, value: &Value, meter: &Meter) -> Result<String, Fault> {
        let item = if self.indent.is_some() { "," } else { ", " };
        let (item, key) = match &self.separators {
            Some((item, key)) => (item.as_str(), key.as_str()),
            None => (item, ": "),
        };
        let mut writer = Writer { dumps: self, item, key, meter, out: String::new() };
        writer.value(value, 0)?;
        Ok(writer.out)
    }
}

struct Writer<'a> {
    dumps: &'a Dumps,
    item: &'a str,
    key: &'a str,
    meter: &'a Meter,
    out: String,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<(), Fault> {
        self.meter.fits(self.out.len() + text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn newline(&mut self, depth: usize) -> Result<(), Fault> {
        let Some(indent) = &self.dumps.indent else { return Ok(()) };
        self.meter.fits(self.out.len() + indent.len() * depth + 1)?;
        self.out.push('\n');
        for _ in 0..depth {
            self.out.push_str(indent);
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Fault> {
        self.meter.step()?;
        match value {
            Value::None => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            // Writing to a string cannot fail.
            Value::Int(n) => _ = write!(self.out, "{n}"),
            Value::Float(x) => self.out.push_str(&float(*x)),
            Value::Str(text) => self.string(text)?,
            Value::List(list) => {
                if list.items.is_empty() {
                    return self.push("[]");
                }
                self.out.push('[');
                for (i, item) in list.items.iter().enumerate() {
                    if i > 0 {
                        self.push(self.item)?;
                    }
                    self.newline(depth + 1)?;
                    self.value(item, depth + 1)?;
                }
                self.newline(depth)?;
                self.out.push(']');
            }
            Value::Dict(dict) => {
                if dict.items.is_empty() {
                    return self.push("{}");
                }
                let mut items: Vec<&(Value, Value)> = dict.items.iter().collect();
                if self.dumps.sort_keys {
                    super::filters::sort_values(&mut items, |pair| &pair.0, self.meter)?;
                }
                self.out.push('{');
                for (i, (key, value)) in items.into_iter().enumerate() {
                    if i > 0 {
                        self.push(self.item)?;
                    }
                    self.newline(depth + 1)?;
                    self.key(key)?;
                    self.push(self.key)?;
                    self.value(value, depth + 1)?;
                }
                self.newline(depth)?;
                self.out.push('}');
            }
            other => {
                return Err(Fault::error(format!(
                    "Object of type {} is not JSON serializable",
                    other.type_name()
                )));
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &Value) -> Result<(), Fault> {
        match key {
            Value::Str(text) => self.string(text),
            Value::None => self.push("\"null\""),
            Value::Bool(true) => self.push("\"true\""),
            Value::Bool(false) => self.push("\"false\""),
            Value::Int(n) => self.push(&format!("\"{n}\"")),
            Value::Float(x) => self.push(&format!("\"{}\"", float(*x))),
            other => Err(Fault::error(format!(
                "keys must be str, int, float, bool or None, not {}",
                other.type_name()
            ))),
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Fault> {
        // Escapes make a byte at most six, and a character of four bytes twelve.
        self.meter.fits(self.out.len() + text.len())?;
        self.out.push('"');
        for (i, c) in text.chars().enumerate() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 => _ = write!(self.out, "\\u{:04x}", c as u32),
                c if self.dumps.ensure_ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
            if i % 4096 == 4095 {
                self.meter.fits(self.out.len())?;
            }
        }
        self.out.push('"');
        Ok(())
    }
}

fn float(x: f64) -> String {
    if x.is_nan() {
        "NaN".into()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity" } else { "-Infinity" }.into()
    } else {
        float_repr(x)
    }
}
