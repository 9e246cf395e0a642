//! The one strict JSON reader, and the writer that Python's `json` agrees with.
//!
//! Configurations, indexes and the safetensors header are all read by [`Parser`], a pull parser:
//! at most [`MAX_DEPTH`] levels (so the stack is safe), no repeated keys, no trailing bytes,
//! integers that are exactly integers, valid UTF-8 and Unicode, and errors with the path of the
//! value they are about.
//!
//! **Numbers that JSON lacks.** Python writes `NaN`, `Infinity` and `-Infinity` bare, and newer
//! tools write `{"__float__": "Infinity"}`; both occur in published configurations. [`parse`]
//! reads a bare one as the tagged form, [`float`] understands the tagged form, and [`to_string`]
//! writes it bare, which every Python reader takes. [`parse_plain`] refuses bare ones.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};
use crate::size::to_u64;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 128;

/// The key of a tagged non-finite number.
const FLOAT_TAG: &str = "__float__";

/// Parses a configuration file; see the [module](self) for what is refused.
///
/// ```
/// let config = lazul_io::json::parse(br#"{"rope_theta": 1e6, "limit": [0.0, Infinity]}"#)?;
/// assert_eq!(lazul_io::json::float(&config["limit"][1]), Some(f64::INFINITY));
/// assert!(lazul_io::json::parse(br#"{"a": 1, "a": 2}"#).is_err());
/// # Ok::<(), lazul_io::Error>(())
/// ```
pub fn parse(bytes: &[u8]) -> Result<Value> {
    parse_with(bytes, true)
}

/// Parses JSON proper: like [`parse`], with bare `NaN` and `Infinity` refused.
pub fn parse_plain(bytes: &[u8]) -> Result<Value> {
    parse_with(bytes, false)
}

fn parse_with(bytes: &[u8], non_finite: bool) -> Result<Value> {
    let mut parser = Parser::new(bytes)?;
    parser.non_finite = non_finite;
    let value = parser.value()?;
    parser.end()?;
    Ok(value)
}

/// A number, or a tagged `{"__float__": "NaN" | "Infinity" | "-Infinity"}`.
pub fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        _ => non_finite(value).and_then(|name| match name {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        }),
    }
}

fn non_finite(value: &Value) -> Option<&str> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.get(FLOAT_TAG)?.as_str().filter(|name| matches!(*name, "NaN" | "Infinity" | "-Infinity"))
}

/// Writes like Python's `json.dumps(value, indent=4, ensure_ascii=False)`.
///
/// ```
/// let text = lazul_io::json::to_string(&serde_json::json!({"a": [1, 2.5], "b": {}}));
/// assert_eq!(text, "{\n    \"a\": [\n        1,\n        2.5\n    ],\n    \"b\": {}\n}");
/// ```
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

fn write_value(out: &mut String, value: &Value, level: usize) {
    fn line(out: &mut String, level: usize) {
        out.push('\n');
        out.extend(std::iter::repeat_n("    ", level));
    }
    let inner = level.saturating_add(1);
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                line(out, inner);
                write_value(out, item, inner);
            }
            line(out, level);
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            if let Some(name) = non_finite(value) {
                out.push_str(name);
                return;
            }
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                line(out, inner);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write_value(out, item, inner);
            }
            line(out, level);
            out.push('}');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn agrees_with_serde_json_on_sound_text() {
        for text in [
            r#"{"a":[1,-2,3.5e-3,true,false,null,"x\n\u00e9\ud83d\ude00"],"b":{"c":{}},"d":[]}"#,
            " [ 0 , 18446744073709551615 , -9223372036854775808 , 1e400000000000000000000e ]",
            "-0",
            "\"\u{1f600}\"",
            "1000000000000000019884624838656",
            "[1.7976931348623157e308,5e-324]",
        ] {
            let expected = serde_json::from_str::<Value>(text).ok();
            assert_eq!(parse_plain(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_serde_json_refuses() {
        for text in [
            "", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", ".5", "+1", "1e", "tru", "nul",
            "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"a\nb\"",
            "\"a", "[1] 2", "{\"a\"}", "NaN", "-Infinity", "-", "1e999", "\u{feff}1", "'a'", "[1 2]",
            "{\"a\":1 \"b\":2}", "\"\\", "\"\\u", "\0", "1\0", "\"\\u+123\"",
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert_eq!(parse_plain(text.as_bytes()).unwrap_err().kind(), ErrorKind::Malformed, "{text}");
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\"", b"\xff"] {
            assert!(parse(bytes).is_err());
        }
    }

    #[test]
    fn refuses_repeated_keys_at_every_level() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[{"x":{"b":1,"c":2,"b":3}}]"#,
        ] {
            assert!(parse(text.as_bytes()).is_err());
            assert!(Parser::new(text.as_bytes()).unwrap().skip().is_err());
        }
        let mut many: Vec<String> = (0..100).map(|i| format!("\"k{i}\":0")).collect();
        let joined = |many: &[String]| format!("{{{}}}", many.join(","));
        assert!(Parser::new(joined(&many).as_bytes()).unwrap().skip().is_ok());
        many.push("\"k3\":0".into());
        assert!(Parser::new(joined(&many).as_bytes()).unwrap().skip().is_err());
        let error = parse(br#"{"x":[0,{"b":1,"b":3}]}"#).unwrap_err();
        assert_eq!(error.json_path().as_deref(), Some("x[1].b"));
    }

    #[test]
    fn depth_is_limited_before_the_stack_is() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        for n in [MAX_DEPTH + 1, 100_000] {
            assert_eq!(parse(deep(n).as_bytes()).unwrap_err().kind(), ErrorKind::Limit);
        }
        assert_eq!(parse("{\"a\":".repeat(100_000).as_bytes()).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn numbers_that_json_lacks_make_the_round_trip() {
        let value = parse(b"[NaN, Infinity, -Infinity, {\"__float__\": \"Infinity\"}]").unwrap();
        assert!(float(&value[0]).unwrap().is_nan());
        assert_eq!(float(&value[2]), Some(f64::NEG_INFINITY));
        assert_eq!(float(&value[3]), Some(f64::INFINITY));
        assert_eq!(float(&parse(b"{\"__float__\": \"2\"}").unwrap()), None);
        assert_eq!(parse(to_string(&value).as_bytes()).unwrap(), value);
        assert!(parse(b"Infinite").is_err());
    }

    #[test]
    fn whole_numbers_are_whole() {
        let read = |text: &str| Parser::new(text.as_bytes()).and_then(|mut p| p.u64());
        assert_eq!(read("18446744073709551615").unwrap(), u64::MAX);
        for text in ["1.0", "1e3", "-1", "-0", "18446744073709551616", "\"2\"", "null", "[1]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
