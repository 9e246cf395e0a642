//! The one strict JSON reader, and the writer that Python's `json` agrees with.
//!
//! Configurations, indexes and the safetensors header are all read by one pull parser:
//! at most [`MAX_DEPTH`] levels (so the stack is safe), no repeated keys, no trailing bytes,
//! integers that are exactly integers, valid UTF-8 and Unicode, and errors with the path of the
//! value they are about.
//!
//! **Numbers that JSON lacks.** Python writes `NaN`, `Infinity` and `-Infinity` bare, and newer
//! tools write `{"__float__": "Infinity"}`; both occur in published configurations. [`parse`]
//! reads a bare one as the tagged form, [`float`] understands the tagged form, and [`to_string`]
//! writes it bare, which every Python reader takes. [`parse_plain`] refuses bare ones.

mod parser;

use serde_json::Value;

pub(crate) use self::parser::{Kind, Parser};
use crate::error::Result;

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
///
/// # Errors
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if it is not JSON in UTF-8, repeats a key
/// or goes on after the value; [`ErrorKind::Limit`](crate::ErrorKind::Limit) if it is nested deeper
/// than [`MAX_DEPTH`]. The error says where.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    parse_with(bytes, true)
}

/// Parses JSON proper: like [`parse`], with bare `NaN` and `Infinity` refused. For what comes from
/// a client or a server, not from Python.
///
/// ```
/// use lazul_io::json::{parse, parse_plain};
/// assert_eq!(parse_plain(br#"{"top_p": 0.9}"#)?["top_p"], 0.9);
/// assert!(parse(b"[NaN]").is_ok() && parse_plain(b"[NaN]").is_err());
/// # Ok::<(), lazul_io::Error>(())
/// ```
///
/// # Errors
/// As [`parse`].
pub fn parse_plain(bytes: &[u8]) -> Result<Value> {
    parse_with(bytes, false)
}

fn parse_with(bytes: &[u8], non_finite: bool) -> Result<Value> {
    let mut parser = Parser::new(bytes)?;
    parser.allow_non_finite(non_finite);
    let value = parser.value()?;
    parser.end()?;
    Ok(value)
}

/// A number, or a tagged `{"__float__": "NaN" | "Infinity" | "-Infinity"}`; `None` for anything
/// else.
///
/// ```
/// use lazul_io::json::{float, parse};
/// assert_eq!(float(&parse(b"2")?), Some(2.0));
/// assert_eq!(float(&parse(b"-Infinity")?), Some(f64::NEG_INFINITY));
/// assert_eq!(float(&parse(br#"{"__float__": "Infinity"}"#)?), Some(f64::INFINITY));
/// assert_eq!(float(&parse(br#""2""#)?), None);
/// # Ok::<(), lazul_io::Error>(())
/// ```
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
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "tru",
            "nul",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"a\nb\"",
            "\"a",
            "[1] 2",
            "{\"a\"}",
            "NaN",
            "-Infinity",
            "-",
            "1e999",
            "\u{feff}1",
            "'a'",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "\"\\",
            "\"\\u",
            "\0",
            "1\0",
            "\"\\u+123\"",
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert_eq!(
                parse_plain(text.as_bytes()).unwrap_err().kind(),
                ErrorKind::Malformed,
                "{text}"
            );
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\"", b"\xff"] {
            assert!(parse(bytes).is_err());
        }
    }

    #[test]
    fn refuses_repeated_keys_at_every_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"[{"x":{"b":1,"c":2,"b":3}}]"#]
        {
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
        assert_eq!(
            parse("{\"a\":".repeat(100_000).as_bytes()).unwrap_err().kind(),
            ErrorKind::Limit
        );
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
