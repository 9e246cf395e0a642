//! Jinja's filters: `value | name(args)`.
//!
//! Filters that Jinja runs lazily give lists here; a template cannot tell, because it can only walk
//! them once or turn them into lists.

use std::rc::Rc;

use super::Fault;
use super::call::{CallArgs, count, int, text};
use super::json::Dumps;
use super::methods::{capitalize, char_slice, items, pad, replace, strip};
use super::value::{Meter, Value};

/// Runs a filter; `None` if there is no filter of this name. Filters that call other filters or tests
/// (`map`, `select` and their kin) are the evaluator's.
pub(super) fn run(
    name: &str,
    value: &Value,
    args: CallArgs,
    meter: &Rc<Meter>,
) -> Result<Option<Value>, Fault> {
    let string = || value.to_text(meter);
    Ok(Some(match name {
        "abs" => match value {
            Value::Float(x) => Value::Float(x.abs()),
            other => Value::Int(
                int(name, Some(other.clone()), 0)?
                    .checked_abs()
                    .ok_or_else(|| Fault::error("integer overflow"))?,
            ),
        },
        "attr" => {
            let [attribute] = args.bind(name, ["name"])?;
            let attribute = text(name, &attribute.unwrap_or(Value::None))?;
            // The filter looks at attributes only, and data has none: its keys are items.
            match value {
                Value::Dict(_) => Value::Undefined(Some(attribute.into())),
                other => attribute_of(other, &attribute, meter)?,
            }
        }
        "batch" => {
            let [size, fill] = args.bind(name, ["linecount", "fill_with"])?;
            let size = count(name, size, 0)?.max(1);
            let list = value.iterate(meter)?;
            let mut out = Vec::new();
            for chunk in list.items.chunks(size) {
                let mut chunk = chunk.to_vec();
                if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
                    meter.fits(size.saturating_mul(size_of::<Value>()))?;
                    chunk.resize(size, fill.clone());
                }
                out.push(meter.list(chunk)?);
            }
            meter.list(out)?
        }
        "capitalize" => meter.str(capitalize(&string()?))?,
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            meter.str(pad(&string()?, count(name, width, 80)?, ' ', "center", meter)?)?
        }
        "count" | "length" => Value::Int(value.length(meter)? as i128),
        "default" | "d" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
            let falsy = boolean.is_some_and(|b| b.truthy()) && !value.truthy();
            match value.is_undefined() || falsy {
                true => default.unwrap_or_else(|| Value::from("")),
                false => value.clone(),
            }
        }
        "dictsort" => {
            let [sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
            let at = match by.as_ref().and_then(Value::as_str) {
                None | Some("key") => 0,
                Some("value") => 1,
                Some(_) => return Err(Fault::error("dictsort: by must be 'key' or 'value'")),
            };
            let sensitive = sensitive.is_some_and(|s| s.truthy());
            let pairs = items(value, meter)?.iterate(meter)?;
            let mut keyed = Vec::with_capacity(pairs.items.len());
            for pair in &pairs.items {
                let Value::List(parts) = pair else { continue };
                keyed.push((fold(&parts.items[at], sensitive, meter)?, pair.clone()));
            }
            sort_values(&mut keyed, |pair| &pair.0, meter)?;
            if reverse.is_some_and(|r| r.truthy()) {
                reverse_stable(&mut keyed, meter)?;
            }
            meter.list(keyed.into_iter().map(|(_, pair)| pair).collect())?
        }
        "escape" | "e" | "forceescape" => {
            let text = string()?;
            meter.fits(text.len() * 5)?;
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            meter.str(text.replace('\'', "&#39;").replace('"', "&#34;"))?
        }
        "first" => value.iterate(meter)?.items.first().cloned().unwrap_or(Value::Undefined(None)),
        "last" => value.iterate(meter)?.items.last().cloned().unwrap_or(Value::Undefined(None)),
        "float" => {
            let [default] = args.bind(name, ["default"])?;
            let parsed = match value {
                Value::Str(text) => text.trim().replace('_', "").parse::<f64>().ok(),
                other => other.as_float(),
            };
            parsed.map(Value::Float).or(default).unwrap_or(Value::Float(0.0))
        }
        "format" => {
            let format = string()?;
            let given = match args.named.is_empty() {
                true => meter.tuple(args.positional)?,
                false => {
                    let pairs = args.named.into_iter();
                    let pairs = pairs.map(|(name, value)| (Value::from(&*name), value));
                    meter.dict(pairs.collect())?
                }
            };
            meter.str(super::format::percent(&format, &given, meter)?)?
        }
        "groupby" => {
            let [attribute, default] = args.bind(name, ["attribute", "default"])?;
            let attribute = attribute.ok_or_else(|| Fault::error("groupby needs an attribute"))?;
            let mut keyed = Vec::new();
            for item in &value.iterate(meter)?.items {
                let mut key = path(item, &attribute, meter)?;
                if let (Value::Undefined(_), Some(default)) = (&key, &default) {
                    key = default.clone();
                }
                keyed.push((key, item.clone()));
            }
            sort_values(&mut keyed, |pair| &pair.0, meter)?;
            let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
            for (key, item) in keyed {
                match groups.last_mut() {
                    Some(group) if group.0.equals(&key, meter)? => group.1.push(item),
                    _ => groups.push((key, vec![item])),
                }
            }
            let mut out = Vec::with_capacity(groups.len());
            for (key, items) in groups {
                let items = meter.list(items)?;
                out.push(meter.tuple(vec![key, items])?);
            }
            meter.list(out)?
        }
        "indent" => {
            let [width, first, blank] = args.bind(name, ["width", "first", "blank"])?;
            let prefix = match width {
                Some(Value::Str(prefix)) => prefix.to_string(),
                width => {
                    let width = count(name, width, 4)?;
                    meter.fits(width)?;
                    " ".repeat(width)
                }
            };
            let first = first.is_some_and(|f| f.truthy());
            let blank = blank.is_some_and(|b| b.truthy());
            let text = string()?;
            meter
                .fits(text.len() + (text.matches('\n').count() + 1).saturating_mul(prefix.len()))?;
            let mut out = String::new();
            for (i, line) in text.split('\n').enumerate() {
                if i > 0 {
                    out.push('\n');
                }
                if (i > 0 || first) && (blank || !line.is_empty() || i == 0) {
                    out.push_str(&prefix);
                }
                out.push_str(line);
            }
            meter.str(out)?
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"])?;
            let base = int(name, base, 10)?;
            let parsed = match value {
                Value::Float(x) if x.is_finite() => Some(x.trunc() as i128),
                Value::Str(text) => parse_int(text, base),
                other => other.as_int(),
            };
            parsed.map(Value::Int).or(default).unwrap_or(Value::Int(0))
        }
        "items" => items(value, meter)?,
        "join" => {
            let [separator, attribute] = args.bind(name, ["d", "attribute"])?;
            let separator = separator.map_or(Ok(String::new()), |s| s.to_text(meter))?;
            let mut out = String::new();
            for (i, item) in value.iterate(meter)?.items.iter().enumerate() {
                meter.step()?;
                if i > 0 {
                    meter.fits(out.len() + separator.len())?;
                    out.push_str(&separator);
                }
                match &attribute {
                    Some(attribute) => path(item, attribute, meter)?.write_str(&mut out, meter)?,
                    None => item.write_str(&mut out, meter)?,
                }
            }
            meter.str(out)?
        }
        "list" => match value {
            Value::List(list) if !list.tuple => value.clone(),
            other => meter.list(other.iterate(meter)?.items.clone())?,
        },
        "lower" => meter.str(string()?.to_lowercase())?,
        "upper" => meter.str(string()?.to_uppercase())?,
        "max" | "min" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
            let sensitive = sensitive.is_some_and(|s| s.truthy());
            let wanted = match name {
                "max" => std::cmp::Ordering::Greater,
                _ => std::cmp::Ordering::Less,
            };
            let mut best: Option<(Value, Value)> = None;
            for item in &value.iterate(meter)?.items {
                let key = match &attribute {
                    Some(attribute) => path(item, attribute, meter)?,
                    None => item.clone(),
                };
                let key = fold(&key, sensitive, meter)?;
                let better = match &best {
                    None => true,
                    Some((known, _)) => key.order(known, meter)? == Some(wanted),
                };
                if better {
                    best = Some((key, item.clone()));
                }
            }
            best.map_or(Value::Undefined(None), |(_, item)| item)
        }
        "replace" => {
            let [old, new, most] = args.bind(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Fault::error("replace needs two arguments"));
            };
            let most = most.filter(|most| !matches!(most, Value::None));
            let most = usize::try_from(int(name, most, -1)?).unwrap_or(usize::MAX);
            let (old, new) = (old.to_text(meter)?, new.to_text(meter)?);
            meter.str(replace(&string()?, &old, &new, most, meter)?)?
        }
        "reverse" => match value {
            Value::Str(text) => meter.str(text.chars().rev().collect())?,
            other => meter.list(other.iterate(meter)?.items.iter().rev().cloned().collect())?,
        },
        "round" => {
            let [precision, method] = args.bind(name, ["precision", "method"])?;
            let x = value.as_float().ok_or_else(|| Fault::error("round needs a number"))?;
            let precision = int(name, precision, 0)?.clamp(-300, 300) as i32;
            let scale = 10f64.powi(precision);
            let rounded = match method.as_ref().and_then(Value::as_str) {
                None | Some("common") => match precision {
                    // Rust formats to a number of digits as Python rounds to it: exactly.
                    0.. => format!("{x:.*}", precision as usize).parse().unwrap_or(x),
                    _ => (x * scale).round_ties_even() / scale,
                },
                Some("ceil") => (x * scale).ceil() / scale,
                Some("floor") => (x * scale).floor() / scale,
                Some(_) => return Err(Fault::error("round: method must be common, ceil or floor")),
            };
            match (value.as_int(), method.is_none()) {
                // Python rounds an integer to an integer.
                (Some(n), true) if precision >= 0 => Value::Int(n),
                (Some(_), true) => Value::Int(rounded as i128),
                _ => Value::Float(rounded),
            }
        }
        "safe" | "string" => match value {
            Value::Str(_) => value.clone(),
            other => meter.str(other.to_text(meter)?)?,
        },
        "slice" => {
            let [slices, fill] = args.bind(name, ["slices", "fill_with"])?;
            let list = value.iterate(meter)?;
            let slices = count(name, slices, 1)?.max(1);
            meter.fits(slices.saturating_mul(size_of::<Value>() + 64))?;
            let (each, extra) = (list.items.len() / slices, list.items.len() % slices);
            let mut out = Vec::with_capacity(slices);
            let mut at = 0;
            for i in 0..slices {
                let len = each + usize::from(i < extra);
                let mut part = list.items[at..at + len].to_vec();
                at += len;
                if let (Some(fill), true) = (&fill, i >= extra && extra > 0) {
                    part.push(fill.clone());
                }
                out.push(meter.list(part)?);
            }
            meter.list(out)?
        }
        "sort" => {
            let params = ["reverse", "case_sensitive", "attribute"];
            let [reverse, sensitive, attribute] = args.bind(name, params)?;
            let sensitive = sensitive.is_some_and(|s| s.truthy());
            let mut keyed = Vec::new();
            for item in &value.iterate(meter)?.items {
                let key = match &attribute {
                    Some(attribute) => path(item, attribute, meter)?,
                    None => item.clone(),
                };
                keyed.push((fold(&key, sensitive, meter)?, item.clone()));
            }
            sort_values(&mut keyed, |pair| &pair.0, meter)?;
            if reverse.is_some_and(|r| r.truthy()) {
                reverse_stable(&mut keyed, meter)?;
            }
            meter.list(keyed.into_iter().map(|(_, item)| item).collect())?
        }
        "sum" => {
            let [attribute, start] = args.bind(name, ["attribute", "start"])?;
            let attribute = attribute.filter(|a| !matches!(a, Value::None));
            let mut sum = start.unwrap_or(Value::Int(0));
            for item in &value.iterate(meter)?.items {
                let item = match &attribute {
                    Some(attribute) => path(item, attribute, meter)?,
                    None => item.clone(),
                };
                sum = super::ops::binary(super::ast::Binary::Add, &sum, &item, meter)?;
            }
            sum
        }
        "title" => {
            // Jinja's own: words begin after blanks, hyphens and opening brackets.
            let mut out = String::new();
            let mut inside = false;
            for c in string()?.chars() {
                if inside {
                    out.extend(c.to_lowercase());
                } else {
                    out.extend(c.to_uppercase());
                }
                inside = !(c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<'));
            }
            meter.str(out)?
        }
        "tojson" => {
            let params = ["ensure_ascii", "indent", "separators", "sort_keys"];
            let [ascii, indent, separators, sort_keys] = args.bind(name, params)?;
            let indent = match indent {
                None | Some(Value::None) => None,
                Some(Value::Str(indent)) => Some(indent.to_string()),
                Some(width) => {
                    let width = count(name, Some(width), 0)?;
                    meter.fits(width)?;
                    Some(" ".repeat(width))
                }
            };
            let separators = match separators {
                None | Some(Value::None) => None,
                Some(Value::List(pair)) if pair.items.len() == 2 => {
                    Some((text(name, &pair.items[0])?, text(name, &pair.items[1])?))
                }
                Some(_) => return Err(Fault::error("tojson: separators must be a pair")),
            };
            let truthy = |value: Option<Value>| value.is_some_and(|value| value.truthy());
            let dumps = Dumps {
                ensure_ascii: truthy(ascii),
                indent,
                separators,
                sort_keys: truthy(sort_keys),
            };
            meter.str(dumps.dump(value, meter)?)?
        }
        "trim" => {
            let [chars] = args.bind(name, ["chars"])?;
            let text = string()?;
            meter.str(strip(&text, chars.as_ref(), "strip")?.to_owned())?
        }
        "truncate" => {
            let params = ["length", "killwords", "end", "leeway"];
            let [length, kill, end, leeway] = args.bind(name, params)?;
            let (length, leeway) = (count(name, length, 255)?, count(name, leeway, 5)?);
            let end = end.map_or(Ok("...".to_owned()), |end| end.to_text(meter))?;
            let text = string()?;
            let end_length = end.chars().count();
            if text.chars().count() <= length.saturating_add(leeway) {
                return Ok(Some(meter.str(text)?));
            }
            let kept = char_slice(&text, 0, length.saturating_sub(end_length));
            let kept = match kill.is_some_and(|k| k.truthy()) {
                true => kept,
                false => kept.rsplit_once(' ').map_or(kept, |(head, _)| head),
            };
            meter.str(format!("{kept}{end}"))?
        }
        "unique" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
            let sensitive = sensitive.is_some_and(|s| s.truthy());
            let (mut seen, mut out): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
            'items: for item in &value.iterate(meter)?.items {
                let key = match &attribute {
                    Some(attribute) => path(item, attribute, meter)?,
                    None => item.clone(),
                };
                let key = fold(&key, sensitive, meter)?;
                for known in &seen {
                    if known.equals(&key, meter)? {
                        continue 'items;
                    }
                }
                seen.push(key);
                out.push(item.clone());
            }
            meter.list(out)?
        }
        "urlencode" => {
            let text = string()?;
            meter.fits(text.len() * 3)?;
            let mut out = String::new();
            for byte in text.bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                        out.push(byte as char);
                    }
                    other => out.push_str(&format!("%{other:02X}")),
                }
            }
            meter.str(out)?
        }
        "wordcount" => {
            let text = string()?;
            let word = |c: char| c.is_alphanumeric() || c == '_';
            Value::Int(text.split(|c| !word(c)).filter(|w| !w.is_empty()).count() as i128)
        }
        _ => return Ok(None),
    }))
}

/// An attribute as the template language looks it up on data: an item of that name.
pub(super) fn attribute_of(value: &Value, name: &str, meter: &Meter) -> Result<Value, Fault> {
    meter.step()?;
    let missing = || Value::Undefined(Some(name.into()));
    Ok(match value {
        Value::Dict(dict) => {
            meter.work(dict.items.len() * 16)?;
            dict.get_str(name).cloned().unwrap_or_else(missing)
        }
        Value::Namespace(ns) => {
            let fields = ns.fields.borrow();
            let found = fields.iter().find(|(field, _)| **field == *name);
            found.map_or_else(missing, |(_, value)| value.clone())
        }
        Value::Undefined(_) => return Err(value.undefined_fault()),
        _ => missing(),
    })
}

/// Follows `a.b.0` from a value.
pub(super) fn path(value: &Value, attribute: &Value, meter: &Rc<Meter>) -> Result<Value, Fault> {
    let mut at = value.clone();
    if let Some(index) = attribute.as_int() {
        return super::ops::item(&at, &Value::Int(index), meter);
    }
    for part in text("attribute", attribute)?.split('.') {
        at = match part.parse::<i128>() {
            Ok(index) => super::ops::item(&at, &Value::Int(index), meter)?,
            Err(_) => attribute_of(&at, part, meter)?,
        };
    }
    Ok(at)
}

/// What sorting compares: text without case unless asked.
fn fold(value: &Value, sensitive: bool, meter: &Rc<Meter>) -> Result<Value, Fault> {
    match value {
        Value::Str(text) if !sensitive => meter.str(text.to_lowercase()),
        other => Ok(other.clone()),
    }
}

/// A stable sort with comparisons that may fail: a merge sort, so that an order that contradicts
/// itself does no harm.
pub(super) fn sort_values<T: Clone>(
    items: &mut Vec<T>,
    key: impl Fn(&T) -> &Value + Copy,
    meter: &Meter,
) -> Result<(), Fault> {
    let mut width = 1;
    let mut from = std::mem::take(items);
    while width < from.len() {
        let mut merged = Vec::with_capacity(from.len());
        for run in from.chunks(width * 2) {
            let (mut left, mut right) = run.split_at(width.min(run.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                if key(b).order(key(a), meter)? == Some(std::cmp::Ordering::Less) {
                    merged.push(b.clone());
                    right = &right[1..];
                } else {
                    merged.push(a.clone());
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        from = merged;
        width *= 2;
    }
    *items = from;
    Ok(())
}

/// Reverses sorted items but keeps equal ones in order, as Python's `reverse=True` does.
fn reverse_stable(items: &mut [(Value, Value)], meter: &Meter) -> Result<(), Fault> {
    items.reverse();
    let mut start = 0;
    while start < items.len() {
        let mut end = start + 1;
        while end < items.len() && items[start].0.equals(&items[end].0, meter)? {
            end += 1;
        }
        items[start..end].reverse();
        start = end;
    }
    Ok(())
}

/// Python's `int(text, base)`.
fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim().replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match base {
        16 => (16, lower.strip_prefix("0x").unwrap_or(&lower)),
        8 => (8, lower.strip_prefix("0o").unwrap_or(&lower)),
        2 => (2, lower.strip_prefix("0b").unwrap_or(&lower)),
        3..=36 => (base as u32, lower.as_str()),
        _ => return None,
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = match i128::from_str_radix(digits, base) {
        Ok(value) => value,
        // Jinja falls back to float for base 10, so "3.7" is 3.
        Err(_) if base == 10 => digits.parse::<f64>().ok().filter(|x| x.is_finite())? as i128,
        Err(_) => return None,
    };
    Some(if negative { -value } else { value })
}
