//! The pull parser.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use super::{FLOAT_TAG, MAX_DEPTH};
use crate::error::{Error, Result};
use crate::size::to_u64;

/// What the next value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
    /// `NaN`, `Infinity` or `-Infinity`.
    NonFinite,
}

/// A pull parser over one document.
pub(crate) struct Parser<'a> {
    text: &'a str,
    position: usize,
    /// Where the text begins in its file.
    base: u64,
    depth: usize,
    non_finite: bool,
}

impl<'a> Parser<'a> {
    /// Starts at the first byte, which may be white space but not a byte-order mark.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Parser<'a>> {
        Parser::at(bytes, 0)
    }

    /// Like [`new`](Self::new), for text that begins at byte `base` of its file.
    pub(crate) fn at(bytes: &'a [u8], base: u64) -> Result<Parser<'a>> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let at = base.saturating_add(to_u64(e.valid_up_to()));
            Error::malformed("the text is not UTF-8").at_byte(at)
        })?;
        Ok(Parser { text, position: 0, base, depth: 0, non_finite: false })
    }

    /// Whether bare `NaN` and `Infinity` are read.
    pub(super) fn allow_non_finite(&mut self, allow: bool) {
        self.non_finite = allow;
    }

    fn fail<T>(&self, message: impl AsRef<str>) -> Result<T> {
        let at = self.base.saturating_add(to_u64(self.position));
        let found = match self.text.get(self.position..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("{} and found {c:?} at byte {at}", message.as_ref()),
            None => format!("{} and the text ends at byte {at}", message.as_ref()),
        };
        Err(Error::malformed(found))
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn advance(&mut self, count: usize) {
        self.position = self.position.saturating_add(count);
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
    }

    /// Takes `byte` after white space if it is next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.byte() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text.get(self.position..).is_some_and(|rest| rest.starts_with(word));
        if found {
            self.advance(word.len());
        }
        found
    }

    /// The kind of the next value.
    pub(crate) fn peek(&mut self) -> Result<Kind> {
        self.space();
        let rest = self.text.get(self.position..).unwrap_or_default();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-') if rest.starts_with("-Infinity") => Ok(Kind::NonFinite),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'N' | b'I') => Ok(Kind::NonFinite),
            _ => self.fail("expected a value"),
        }
    }

    /// Nothing but white space may be left.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.space();
        match self.byte() {
            None => Ok(()),
            Some(_) => self.fail("expected the end of the text"),
        }
    }

    fn descend(&mut self) -> Result<()> {
        self.depth = self.depth.saturating_add(1);
        match self.depth > MAX_DEPTH {
            true => Err(Error::limit(format!("the text nests deeper than {MAX_DEPTH} levels"))),
            false => Ok(()),
        }
    }

    /// Reads an object; `member` must consume each value. Repeated keys are refused.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        let mut few: Vec<Cow<'a, str>> = Vec::new();
        let mut many: HashSet<Cow<'a, str>> = HashSet::new();
        self.entries(|parser, key| {
            let repeated = if many.is_empty() && few.len() < 16 {
                let repeated = few.contains(&key);
                few.push(key.clone());
                repeated
            } else {
                many.extend(few.drain(..));
                !many.insert(key.clone())
            };
            if repeated {
                return Err(Error::malformed("the key is repeated"));
            }
            member(parser, &key)
        })
    }

    /// Reads an object without looking for repeated keys: only for callers that collect the keys
    /// of a large object themselves and check there.
    pub(crate) fn entries(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<()>,
    ) -> Result<()> {
        if !self.take(b'{') {
            return self.fail("expected an object");
        }
        self.descend()?;
        if !self.take(b'}') {
            loop {
                self.space();
                let key = self.string()?;
                if !self.take(b':') {
                    return self.fail("expected ':'");
                }
                member(self, key.clone()).map_err(|e| e.under_key(&key))?;
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return self.fail("expected ',' or '}'");
                }
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Reads an array; `item` must consume each value.
    pub(crate) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        if !self.take(b'[') {
            return self.fail("expected an array");
        }
        self.descend()?;
        if !self.take(b']') {
            let mut index: usize = 0;
            loop {
                item(self, index).map_err(|e| e.under_index(index))?;
                index = index.saturating_add(1);
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return self.fail("expected ',' or ']'");
                }
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Reads a string, borrowed unless it has escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        if !self.take(b'"') {
            return self.fail("expected a string");
        }
        let mut owned: Option<String> = None;
        loop {
            let rest = self.text.get(self.position..).unwrap_or_default();
            let stop = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20);
            let plain = stop.and_then(|stop| rest.get(..stop));
            let Some(plain) = plain else {
                self.position = self.text.len();
                return self.fail("expected the end of a string");
            };
            self.advance(plain.len());
            match self.byte() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(match owned {
                        None => Cow::Borrowed(plain),
                        Some(mut text) => {
                            text.push_str(plain);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    self.advance(1);
                    let text = owned.get_or_insert_default();
                    text.push_str(plain);
                    let c = self.escape()?;
                    text.push(c);
                }
                _ => return self.fail("expected no control characters in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(byte) = self.byte() else { return self.fail("expected an escape") };
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.advance(1);
                return self.unicode();
            }
            _ => return self.fail("expected an escape"),
        };
        self.advance(1);
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char> {
        let unit = self.hex4()?;
        let code = match unit {
            0xd800..=0xdbff => {
                if !self.word("\\u") {
                    return self.fail("expected the second half of a surrogate pair");
                }
                let low = self.hex4()?;
                let (0xdc00..=0xdfff) = low else {
                    return self.fail("expected the second half of a surrogate pair");
                };
                let high = unit.saturating_sub(0xd800) << 10;
                (high | low.saturating_sub(0xdc00)).saturating_add(0x1_0000)
            }
            unit => unit,
        };
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.fail("expected a Unicode character"),
        }
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.get(self.position..self.position.saturating_add(4));
        let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(unit) => {
                self.advance(4);
                Ok(unit)
            }
            None => self.fail("expected four hexadecimal digits"),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.position;
        while self.byte().is_some_and(|b| b.is_ascii_digit()) {
            self.advance(1);
        }
        self.position.saturating_sub(start)
    }

    /// The text of a number by the grammar, and whether it is an integer.
    fn number_text(&mut self) -> Result<(&'a str, bool)> {
        self.space();
        let start = self.position;
        if self.byte() == Some(b'-') {
            self.advance(1);
        }
        let leading_zero = self.byte() == Some(b'0');
        let digits = self.digits();
        if digits == 0 || (leading_zero && digits > 1) {
            return self.fail("expected a number");
        }
        let mut integer = true;
        if self.byte() == Some(b'.') {
            integer = false;
            self.advance(1);
            if self.digits() == 0 {
                return self.fail("expected a digit");
            }
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            integer = false;
            self.advance(1);
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.advance(1);
            }
            if self.digits() == 0 {
                return self.fail("expected a digit");
            }
        }
        Ok((self.text.get(start..self.position).unwrap_or_default(), integer))
    }

    /// Reads a whole number that is written as one: not `1.0`, not `1e3`, not `-0`.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        if self.peek()? != Kind::Number {
            return self.fail("expected a whole number");
        }
        let (text, integer) = self.number_text()?;
        match text.parse::<u64>() {
            Ok(number) if integer => Ok(number),
            _ => Err(Error::malformed(format!("{text} is not a whole number below 2^64"))),
        }
    }

    fn number(&mut self) -> Result<Number> {
        let (text, integer) = self.number_text()?;
        if integer {
            if let Ok(number) = text.parse::<u64>() {
                return Ok(number.into());
            }
            if let Some(number) = text.parse::<i64>().ok().filter(|&n| n != 0) {
                return Ok(number.into());
            }
        }
        // Python's configurations carry integers beyond 64 bits (`int(1e30)` as "no limit").
        match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Ok(number),
            None => Err(Error::malformed("the number is too large")),
        }
    }

    /// Reads `true` or `false`.
    pub(crate) fn bool(&mut self) -> Result<bool> {
        self.space();
        match () {
            () if self.word("true") => Ok(true),
            () if self.word("false") => Ok(false),
            () => self.fail("expected true or false"),
        }
    }

    /// Reads `null`.
    pub(crate) fn null(&mut self) -> Result<()> {
        self.space();
        if self.word("null") { Ok(()) } else { self.fail("expected null") }
    }

    /// Reads any value.
    pub(crate) fn value(&mut self) -> Result<Value> {
        Ok(match self.peek()? {
            Kind::Null => {
                self.null()?;
                Value::Null
            }
            Kind::Bool => self.bool()?.into(),
            Kind::Number => Value::Number(self.number()?),
            Kind::String => self.string()?.into_owned().into(),
            Kind::NonFinite => {
                let names = ["NaN", "Infinity", "-Infinity"];
                let name = names.into_iter().find(|name| self.word(name));
                let Some(name) = name.filter(|_| self.non_finite) else {
                    return self.fail("expected a value");
                };
                Value::Object(Map::from_iter([(FLOAT_TAG.to_owned(), name.into())]))
            }
            Kind::Array => {
                let mut items = Vec::new();
                self.array(|parser, _| {
                    items.push(parser.value()?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            Kind::Object => {
                let mut map = Map::new();
                self.entries(|parser, key| {
                    if map.contains_key(key.as_ref()) {
                        return Err(Error::malformed("the key is repeated"));
                    }
                    map.insert(key.into_owned(), parser.value()?);
                    Ok(())
                })?;
                Value::Object(map)
            }
        })
    }

    /// Reads any value and forgets it.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            Kind::Null => self.null(),
            Kind::Bool => self.bool().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::String => self.string().map(drop),
            Kind::NonFinite => self.fail("expected a value"),
            Kind::Array => self.array(|parser, _| parser.skip()),
            Kind::Object => self.object(|parser, _| parser.skip()),
        }
    }
}
