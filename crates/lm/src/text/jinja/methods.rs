//! The methods of Python's strings, dictionaries and lists that templates call.

use std::rc::Rc;
use std::sync::Arc;

use super::Fault;
use super::call::{CallArgs, count, int, text};
use super::value::{Meter, Str, Value, lookup};

const STR: [&str; 41] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "expandtabs",
    "istitle",
];

/// Whether values of this kind have such a method.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => STR.contains(&name),
        Value::Dict(_) => matches!(name, "get" | "items" | "keys" | "values" | "copy"),
        Value::List(list) => matches!(name, "index" | "count") || (!list.tuple && name == "copy"),
        Value::Loop(_) => matches!(name, "cycle" | "changed"),
        _ => false,
    }
}

/// The method of a value.
pub(super) fn bind(value: &Value, name: &str, meter: &Rc<Meter>) -> Result<Value, Fault> {
    meter.step()?;
    Ok(Value::Method(Rc::new((value.clone(), Arc::from(name)))))
}

/// Calls a method.
pub(super) fn call(
    this: &Value,
    name: &str,
    args: CallArgs,
    meter: &Rc<Meter>,
) -> Result<Value, Fault> {
    match this {
        Value::Str(this) => str_method(this, name, args, meter),
        Value::Dict(dict) => match name {
            "get" => {
                let [key, default] = args.bind(name, ["key", "default"])?;
                let key = key.ok_or_else(|| Fault::error("get() needs a key"))?;
                let found = lookup(dict, &key, meter)?.cloned();
                Ok(found.or(default).unwrap_or(Value::None))
            }
            "keys" => meter.list(dict.items.iter().map(|(key, _)| key.clone()).collect()),
            "values" => meter.list(dict.items.iter().map(|(_, value)| value.clone()).collect()),
            "copy" => Ok(this.clone()),
            _ => items(this, meter),
        },
        Value::List(list) => {
            if name == "copy" {
                return Ok(this.clone());
            }
            let [wanted] = args.bind(name, ["value"])?;
            let wanted = wanted.ok_or_else(|| Fault::error(format!("{name}() needs a value")))?;
            let mut hits = 0;
            for (i, item) in list.items.iter().enumerate() {
                if item.equals(&wanted, meter)? {
                    if name == "index" {
                        return Ok(Value::Int(i as i128));
                    }
                    hits += 1;
                }
            }
            if name == "index" {
                return Err(Fault::error("the value is not in the list"));
            }
            Ok(Value::Int(hits))
        }
        other => Err(Fault::error(format!("'{}' has no method {name:?}", other.type_name()))),
    }
}

/// The pairs of a dictionary.
pub(super) fn items(value: &Value, meter: &Rc<Meter>) -> Result<Value, Fault> {
    match value {
        Value::Dict(dict) => {
            let pairs = dict.items.iter();
            let pairs = pairs.map(|(key, value)| meter.tuple(vec![key.clone(), value.clone()]));
            meter.list(pairs.collect::<Result<_, _>>()?)
        }
        Value::Undefined(_) => meter.list(Vec::new()),
        _ => Err(Fault::error("can only get item pairs from a mapping")),
    }
}

fn str_method(this: &Str, name: &str, args: CallArgs, meter: &Rc<Meter>) -> Result<Value, Fault> {
    meter.work(this.len())?;
    if !matches!(name, "startswith" | "endswith" | "find" | "index" | "strip" | "removeprefix") {
        meter.scan(this.len())?;
    }
    let this_text: &str = this;
    let all = |test: fn(char) -> bool| {
        Ok(Value::Bool(!this_text.is_empty() && this_text.chars().all(test)))
    };
    match name {
        "lower" => meter.str(this.to_lowercase()),
        "casefold" => {
            meter.fits(this.len() * 2)?;
            meter.str(this.to_lowercase().replace('ß', "ss"))
        }
        "upper" => meter.str(this.to_uppercase()),
        "capitalize" => meter.str(capitalize(this)),
        "title" => meter.str(title(this)),
        "swapcase" => {
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            meter.str(this.chars().map(swap).collect())
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["chars"])?;
            meter.str(strip(this, chars.as_ref(), name)?.to_owned())
        }
        "split" | "rsplit" => {
            let [sep, most] = args.bind(name, ["sep", "maxsplit"])?;
            let most = int(name, most, -1)?;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            split(this, sep.as_ref(), most, name == "rsplit", meter)
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"])?;
            let keep = keep.is_some_and(|keep| keep.truthy());
            let lines = split_lines(this, keep);
            strings(lines, meter)
        }
        "startswith" | "endswith" => {
            let [part, ..] = args.bind(name, ["prefix", "start", "end"])?;
            let part = part.ok_or_else(|| Fault::error(format!("{name}() needs an argument")))?;
            let test = |part: &Value| -> Result<bool, Fault> {
                let part = text(name, part)?;
                Ok(if name == "startswith" {
                    this.starts_with(&part)
                } else {
                    this.ends_with(&part)
                })
            };
            match &part {
                Value::List(list) if list.tuple => {
                    for part in &list.items {
                        if test(part)? {
                            return Ok(Value::Bool(true));
                        }
                    }
                    Ok(Value::Bool(false))
                }
                part => Ok(Value::Bool(test(part)?)),
            }
        }
        "replace" => {
            let [old, new, most] = args.bind(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Fault::error("replace() needs two arguments"));
            };
            let most = usize::try_from(int(name, most, -1)?).unwrap_or(usize::MAX);
            meter.str(replace(this, &text(name, &old)?, &text(name, &new)?, most, meter)?)
        }
        "join" => {
            let [items] = args.bind(name, ["iterable"])?;
            let items = items.ok_or_else(|| Fault::error("join() needs an argument"))?;
            let mut out = String::new();
            for (i, item) in items.iterate(meter)?.items.iter().enumerate() {
                let item = text("join", item)?;
                meter.fits(out.len() + item.len() + this.len())?;
                if i > 0 {
                    out.push_str(this);
                }
                out.push_str(&item);
            }
            meter.str(out)
        }
        "count" | "find" | "rfind" | "index" | "rindex" => {
            let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
            let part = part.ok_or_else(|| Fault::error(format!("{name}() needs an argument")))?;
            let part = text(name, &part)?;
            let length = this.chars().count();
            let clamp = |bound: Option<Value>, default: usize| -> Result<usize, Fault> {
                let at = int(name, bound.filter(|b| !matches!(b, Value::None)), default as i128)?;
                let at = if at < 0 { at + length as i128 } else { at };
                Ok(at.clamp(0, length as i128) as usize)
            };
            let (start, end) = (clamp(start, 0)?, clamp(end, length)?);
            let window = char_slice(this, start, end.max(start));
            if name == "count" {
                let hits = match part.is_empty() {
                    true => window.chars().count() + 1,
                    false => window.matches(part.as_str()).count(),
                };
                return Ok(Value::Int(hits as i128));
            }
            let found =
                if name.starts_with('r') { window.rfind(&part) } else { window.find(&part) };
            match found {
                Some(at) => Ok(Value::Int((start + window[..at].chars().count()) as i128)),
                None if name.ends_with("find") => Ok(Value::Int(-1)),
                None => Err(Fault::error("substring not found")),
            }
        }
        "partition" | "rpartition" => {
            let [sep] = args.bind(name, ["sep"])?;
            let sep = text(name, &sep.unwrap_or(Value::None))?;
            if sep.is_empty() {
                return Err(Fault::error("empty separator"));
            }
            let found = if name == "partition" { this.find(&sep) } else { this.rfind(&sep) };
            let parts = match (found, name) {
                (Some(at), _) => [&this[..at], &sep, &this[at + sep.len()..]],
                (None, "partition") => [this_text, "", ""],
                (None, _) => ["", "", this_text],
            };
            let parts = parts.into_iter().map(|part| meter.str(part.to_owned()));
            meter.tuple(parts.collect::<Result<_, _>>()?)
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.bind(name, ["part"])?;
            let part = text(name, &part.unwrap_or(Value::None))?;
            let kept = if name == "removeprefix" {
                this.strip_prefix(part.as_str())
            } else {
                this.strip_suffix(part.as_str())
            };
            meter.str(kept.unwrap_or(this).to_owned())
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = args.bind(name, ["width", "fillchar"])?;
            let width = count(name, width, 0)?;
            let fill = match fill {
                None if name == "zfill" => '0',
                None => ' ',
                Some(fill) => text(name, &fill)?.chars().next().unwrap_or(' '),
            };
            meter.str(pad(this, width, fill, name, meter)?)
        }
        "expandtabs" => {
            meter.fits(this.matches('\t').count() * 8)?;
            meter.str(this.replace('\t', "        "))
        }
        "format" => {
            let out = str_format(this, args, meter)?;
            meter.str(out)
        }
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isspace" => all(char::is_whitespace),
        "isascii" => Ok(Value::Bool(this.is_ascii())),
        "islower" => Ok(Value::Bool(
            this.chars().any(char::is_lowercase) && !this.chars().any(char::is_uppercase),
        )),
        "isupper" => Ok(Value::Bool(
            this.chars().any(char::is_uppercase) && !this.chars().any(char::is_lowercase),
        )),
        "istitle" => {
            Ok(Value::Bool(this.chars().any(char::is_alphabetic) && title(this) == *this_text))
        }
        other => Err(Fault::error(format!("'str' has no method {other:?}"))),
    }
}

fn strings<'a>(
    parts: impl IntoIterator<Item = &'a str>,
    meter: &Rc<Meter>,
) -> Result<Value, Fault> {
    let parts = parts.into_iter().map(|part| meter.str(part.to_owned()));
    meter.list(parts.collect::<Result<_, _>>()?)
}

/// Strips whitespace, or any of the given characters.
pub(super) fn strip<'a>(
    this: &'a str,
    chars: Option<&Value>,
    name: &str,
) -> Result<&'a str, Fault> {
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(chars) => Some(text(name, chars)?),
    };
    let hit = |c: char| match &chars {
        Some(chars) => chars.contains(c),
        None => c.is_whitespace(),
    };
    Ok(match name {
        "lstrip" => this.trim_start_matches(hit),
        "rstrip" => this.trim_end_matches(hit),
        _ => this.trim_matches(hit),
    })
}

fn split(
    this: &str,
    sep: Option<&Value>,
    most: usize,
    right: bool,
    meter: &Rc<Meter>,
) -> Result<Value, Fault> {
    let mut parts: Vec<&str> = Vec::new();
    match sep {
        None | Some(Value::None) => {
            let mut rest = if right { this.trim_end() } else { this.trim_start() };
            while !rest.is_empty() {
                if parts.len() == most {
                    parts.push(if right { rest.trim_end() } else { rest });
                    break;
                }
                if right {
                    let at = rest.rfind(char::is_whitespace);
                    let start =
                        at.map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
                    parts.push(&rest[start..]);
                    rest = rest[..start].trim_end();
                } else {
                    let at = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    parts.push(&rest[..at]);
                    rest = rest[at..].trim_start();
                }
            }
            if right {
                parts.reverse();
            }
        }
        Some(sep) => {
            let sep = text("split", sep)?;
            if sep.is_empty() {
                return Err(Fault::error("empty separator"));
            }
            meter.fits(this.matches(sep.as_str()).count().min(most) * 80)?;
            if right {
                parts.extend(this.rsplitn(most.saturating_add(1), sep.as_str()));
                parts.reverse();
            } else {
                parts.extend(this.splitn(most.saturating_add(1), sep.as_str()));
            }
            return strings(parts, meter);
        }
    }
    strings(parts, meter)
}

fn split_lines(this: &str, keep: bool) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = this;
    while !rest.is_empty() {
        let at = rest.find(|c| {
            matches!(
                c,
                '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                    ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
            )
        });
        let Some(at) = at else {
            out.push(rest);
            break;
        };
        let len = match rest[at..].starts_with("\r\n") {
            true => 2,
            false => rest[at..].chars().next().map_or(1, char::len_utf8),
        };
        out.push(&rest[..if keep { at + len } else { at }]);
        rest = &rest[at + len..];
    }
    out
}

/// `str.replace`.
pub(super) fn replace(
    this: &str,
    old: &str,
    new: &str,
    most: usize,
    meter: &Meter,
) -> Result<String, Fault> {
    let hits = match old.is_empty() {
        true => this.chars().count() + 1,
        false => this.matches(old).count(),
    };
    let hits = hits.min(most);
    meter.fits(this.len().saturating_add(hits.saturating_mul(new.len())))?;
    Ok(this.replacen(old, new, hits))
}

/// `center`, `ljust`, `rjust` and `zfill`.
pub(super) fn pad(
    this: &str,
    width: usize,
    fill: char,
    how: &str,
    meter: &Meter,
) -> Result<String, Fault> {
    let length = this.chars().count();
    if width <= length {
        return Ok(this.to_owned());
    }
    let missing = width - length;
    meter.fits(this.len().saturating_add(missing.saturating_mul(fill.len_utf8())))?;
    // Python puts the odd one on the left if the width is odd.
    let left = match how {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, body) = match how == "zfill" && this.starts_with(['-', '+']) {
        true => this.split_at(1),
        false => ("", this),
    };
    let mut out = String::from(sign);
    out.extend(std::iter::repeat_n(fill, left));
    out.push_str(body);
    out.extend(std::iter::repeat_n(fill, missing - left));
    Ok(out)
}

pub(super) fn capitalize(this: &str) -> String {
    let mut chars = this.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

/// Python's `str.title`: every letter after a non-letter is a capital.
fn title(this: &str) -> String {
    let mut out = String::with_capacity(this.len());
    let mut inside = false;
    for c in this.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

/// Characters `start..end` of a text.
pub(super) fn char_slice(text: &str, start: usize, end: usize) -> &str {
    if text.is_ascii() {
        return &text[start.min(text.len())..end.min(text.len())];
    }
    let mut at = text.char_indices().map(|(i, _)| i).chain([text.len()]);
    let from = at.nth(start).unwrap_or(text.len());
    let to = if end > start { at.nth(end - start - 1).unwrap_or(text.len()) } else { from };
    &text[from..to]
}

/// `str.format` with plain fields: `{}`, `{0}`, `{name}`.
fn str_format(this: &str, args: CallArgs, meter: &Rc<Meter>) -> Result<String, Fault> {
    let mut out = String::new();
    let mut rest = this;
    let mut automatic = 0;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if tail.starts_with(&rest[at..=at]) {
            out.push_str(&rest[at..=at]);
            rest = &tail[1..];
            continue;
        }
        let end = tail.find('}').filter(|_| rest.as_bytes()[at] == b'{');
        let end = end.ok_or_else(|| Fault::error("a single brace in a format string"))?;
        let field = &tail[..end];
        let value = if field.is_empty() {
            automatic += 1;
            args.positional.get(automatic - 1)
        } else if let Ok(index) = field.parse::<usize>() {
            args.positional.get(index)
        } else if field.contains(['.', '[', ':', '!']) {
            return Err(Fault::error("format fields with parts are not supported"));
        } else {
            args.named.iter().find(|(name, _)| **name == *field).map(|(_, value)| value)
        };
        let value = value.ok_or_else(|| Fault::error(format!("no argument for {field:?}")))?;
        value.write_str(&mut out, meter)?;
        rest = &tail[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
