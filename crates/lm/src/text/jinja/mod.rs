//! Jinja for chat templates: the language of Jinja2 as Hugging Face runs it, under a meter.
//!
//! A chat template is a program from a model file, so a stranger's, and it runs inside a server on
//! other people's messages. What general template engines cannot give is a bound on all of it:
//! their operators build strings and lists of any size in one step. This interpreter walks the tree
//! and charges every step, every byte that is copied and every byte that is alive to a [`Meter`], so
//! that the limits hold for any template on any input:
//!
//! * the parser and the evaluator count their depth, so neither can exhaust a 2 MiB stack;
//! * steps and copied bytes come out of one budget of fuel;
//! * live values and the output have byte limits, checked before memory is taken.
//!
//! The semantics are those of Jinja2 3.1 in its immutable sandbox, down to Python's way of printing
//! values: golden conversations in `tests/` compare whole prompts byte for byte. Left out is what one
//! file cannot use (`include`, `import`, `extends`, `block`) and what prompts do not need (HTML, line
//! statements, custom delimiters).
//!
//! `lexer → parser → eval`, with `value` below them and `filters`, `methods`, `tests` and `json`
//! beside.

mod ast;
mod call;
mod eval;
mod expr;
mod filters;
mod format;
mod invoke;
mod json;
mod lexer;
mod methods;
mod ops;
mod parser;
mod tests;
mod value;

use std::rc::Rc;

use super::error::{TextError, clip};

/// What a rendering may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Steps of the interpreter; copying 64 bytes counts as one.
    pub fuel: u64,
    /// Bytes of live values, the messages included.
    pub live_bytes: usize,
    /// Bytes of the prompt.
    pub output_bytes: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        TemplateLimits { fuel: 1_000_000, live_bytes: 8 << 20, output_bytes: 4 << 20 }
    }
}

/// Why a template stopped.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Syntax { line: u32, reason: String },
    Error(String),
    Raised(String),
    TooLarge { what: &'static str, size: usize, limit: usize },
    TooExpensive,
}

impl Fault {
    pub(super) fn syntax(line: u32, reason: impl Into<String>) -> Self {
        Fault::Syntax { line, reason: reason.into() }
    }

    pub(super) fn error(reason: impl Into<String>) -> Self {
        Fault::Error(reason.into())
    }

    fn into_error(self, line: u32) -> TextError {
        match self {
            Fault::Syntax { line, reason } => TextError::Syntax { line, reason: clip(&reason) },
            Fault::Error(reason) => TextError::Render { line, reason: clip(&reason) },
            Fault::Raised(reason) => TextError::Refused(clip(&reason)),
            Fault::TooLarge { what, size, limit } => {
                TextError::TooLarge { what, size: size as u64, limit: limit as u64 }
            }
            Fault::TooExpensive => TextError::TooExpensive("the chat template"),
        }
    }
}

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template {
    body: Vec<ast::Stmt>,
}

/// The longest template that is parsed. The longest published one is near 20 KiB.
const MOST_SOURCE: usize = 256 << 10;

impl Template {
    pub(super) fn parse(source: &str) -> Result<Self, TextError> {
        super::error::limit("a chat template", source.len(), MOST_SOURCE)?;
        let tokens = lexer::tokenize(source).map_err(|fault| fault.into_error(0))?;
        let body = parser::parse(tokens).map_err(|fault| fault.into_error(0))?;
        Ok(Template { body })
    }

    /// Renders with variables.
    pub(super) fn render(
        &self,
        variables: Variables,
        now: std::time::SystemTime,
        limits: TemplateLimits,
    ) -> Result<(String, Usage), TextError> {
        let Variables { meter, globals } = variables;
        let mut interpreter = eval::Interpreter::new(Rc::clone(&meter), globals, now, limits);
        let text = interpreter.run(&self.body).map_err(|(line, fault)| fault.into_error(line))?;
        let usage = Usage { fuel: meter.used(), live_bytes: meter.peak() };
        Ok((text, usage))
    }
}

/// How texts are changed on their way into a template; `None` leaves a text as it is.
pub(super) type Quote<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of a rendering, charged to its meter from the start.
pub(super) struct Variables {
    meter: Rc<value::Meter>,
    globals: Vec<(std::sync::Arc<str>, value::Value)>,
}

impl Variables {
    pub(super) fn new(limits: TemplateLimits) -> Self {
        Variables { meter: Rc::new(value::Meter::new(limits)), globals: Vec::new() }
    }

    /// Sets a variable to a JSON value.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: &serde_json::Value,
        quote: Quote<'_>,
    ) -> Result<(), TextError> {
        let value = value::from_json(value, &self.meter, quote, 0).map_err(|f| f.into_error(0))?;
        self.globals.push((name.into(), value));
        Ok(())
    }

    /// Sets a variable to a list of dictionaries, given by their fields.
    pub(super) fn set_records<'r, R>(
        &mut self,
        name: &str,
        records: impl Iterator<Item = (R, Quote<'r>)>,
    ) -> Result<(), TextError>
    where
        R: Iterator<Item = (&'r str, Field<'r>)>,
    {
        let meter = &self.meter;
        let record = |(fields, quote): (R, Quote<'r>)| {
            let pair = |(key, field): (&str, Field<'_>)| {
                let value = match field {
                    Field::Text(text) => meter.str(quote(text).unwrap_or_else(|| text.into()))?,
                    Field::Json(value) => value::from_json(value, meter, quote, 1)?,
                };
                let key = quote(key).unwrap_or_else(|| key.into());
                Ok((meter.str(key)?, value))
            };
            meter.dict(fields.map(pair).collect::<Result<_, Fault>>()?)
        };
        let list = records.map(record).collect::<Result<_, _>>().and_then(|list| meter.list(list));
        self.globals.push((name.into(), list.map_err(|fault| fault.into_error(0))?));
        Ok(())
    }
}

/// A field of a record.
pub(super) enum Field<'a> {
    Text(&'a str),
    Json(&'a serde_json::Value),
}

/// What a rendering used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code))]
pub(super) struct Usage {
    pub(super) fuel: u64,
    pub(super) live_bytes: usize,
}
