//! Operators: arithmetic, comparison, subscripts and slices, with Python's rules.

use std::cmp::Ordering;
use std::rc::Rc;

use super::Fault;
use super::ast::{Binary, Compare};
use super::filters::attribute_of;
use super::methods::{self, char_slice};
use super::value::{Meter, Value, lookup};

/// `left op right`.
pub(super) fn binary(
    op: Binary,
    left: &Value,
    right: &Value,
    meter: &Rc<Meter>,
) -> Result<Value, Fault> {
    for value in [left, right] {
        if value.is_undefined() {
            return Err(value.undefined_fault());
        }
    }
    let sign = match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "**",
    };
    let unsupported = || {
        Fault::error(format!(
            "unsupported operand type(s) for {sign}: '{}' and '{}'",
            left.type_name(),
            right.type_name()
        ))
    };
    match (op, left, right) {
        (Binary::Add, Value::Str(a), Value::Str(b)) => {
            meter.fits(a.len() + b.len())?;
            return meter.str([&**a, &**b].concat());
        }
        (Binary::Add, Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
            meter.fits((a.items.len() + b.items.len()) * size_of::<Value>())?;
            let joined = [a.items.as_slice(), b.items.as_slice()].concat();
            return if a.tuple { meter.tuple(joined) } else { meter.list(joined) };
        }
        (Binary::Mul, Value::Str(text), count) | (Binary::Mul, count, Value::Str(text)) => {
            let count = times(count).ok_or_else(unsupported)?;
            meter.fits(text.len().saturating_mul(count))?;
            return meter.str(text.repeat(count));
        }
        (Binary::Mul, Value::List(list), count) | (Binary::Mul, count, Value::List(list)) => {
            let count = times(count).ok_or_else(unsupported)?;
            let size = list.items.len().saturating_mul(count);
            // An empty list times a million is a million steps of nothing.
            let count = if size == 0 { 0 } else { count };
            meter.fits(size.saturating_mul(size_of::<Value>()))?;
            let mut items = Vec::with_capacity(size);
            for _ in 0..count {
                items.extend_from_slice(&list.items);
            }
            return if list.tuple { meter.tuple(items) } else { meter.list(items) };
        }
        (Binary::Mod, Value::Str(format), args) => {
            return meter.str(super::format::percent(format, args, meter)?);
        }
        _ => {}
    }
    let overflow = || Fault::error("integer overflow");
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let result = match op {
            Binary::Add => a.checked_add(b),
            Binary::Sub => a.checked_sub(b),
            Binary::Mul => a.checked_mul(b),
            Binary::FloorDiv | Binary::Mod | Binary::Div if b == 0 => {
                return Err(Fault::error("division by zero"));
            }
            Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
            Binary::FloorDiv => {
                a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
            }
            Binary::Mod => {
                a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
            }
            Binary::Pow => match u32::try_from(b) {
                Ok(b) => a.checked_pow(b),
                Err(_) => return Ok(Value::Float((a as f64).powf(b as f64))),
            },
        };
        return result.map(Value::Int).ok_or_else(overflow);
    }
    let (Some(a), Some(b)) = (left.as_float(), right.as_float()) else {
        return Err(unsupported());
    };
    Ok(Value::Float(match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div | Binary::FloorDiv | Binary::Mod if b == 0.0 => {
            return Err(Fault::error("division by zero"));
        }
        Binary::Div => a / b,
        Binary::FloorDiv => (a / b).floor(),
        Binary::Mod => a - b * (a / b).floor(),
        Binary::Pow => a.powf(b),
    }))
}

/// A repeat count: below zero is none.
fn times(count: &Value) -> Option<usize> {
    Some(usize::try_from(count.as_int()?.max(0)).unwrap_or(usize::MAX))
}

/// `left op right`, for a comparison.
pub(super) fn compare(
    op: Compare,
    left: &Value,
    right: &Value,
    meter: &Rc<Meter>,
) -> Result<bool, Fault> {
    let order = |wanted: &[Ordering]| -> Result<bool, Fault> {
        for value in [left, right] {
            if value.is_undefined() {
                return Err(value.undefined_fault());
            }
        }
        Ok(left.order(right, meter)?.is_some_and(|order| wanted.contains(&order)))
    };
    match op {
        Compare::Eq => left.equals(right, meter),
        Compare::Ne => Ok(!left.equals(right, meter)?),
        Compare::Lt => order(&[Ordering::Less]),
        Compare::Le => order(&[Ordering::Less, Ordering::Equal]),
        Compare::Gt => order(&[Ordering::Greater]),
        Compare::Ge => order(&[Ordering::Greater, Ordering::Equal]),
        Compare::In => right.contains(left, meter),
        Compare::NotIn => Ok(!right.contains(left, meter)?),
    }
}

/// `value[index]`.
pub(super) fn item(value: &Value, index: &Value, meter: &Rc<Meter>) -> Result<Value, Fault> {
    meter.step()?;
    let missing = || {
        let name = index.as_str().filter(|name| name.len() < 100);
        Value::Undefined(name.map(Into::into))
    };
    Ok(match (value, index) {
        (Value::Undefined(_), _) => return Err(value.undefined_fault()),
        (Value::Dict(dict), _) => match lookup(dict, index, meter)? {
            Some(found) => found.clone(),
            None => match index.as_str() {
                Some(name) if methods::exists(value, name) => methods::bind(value, name, meter)?,
                _ => missing(),
            },
        },
        (Value::List(list), _) if index.as_int().is_some() => {
            let at = position(index, list.items.len());
            at.and_then(|at| list.items.get(at)).cloned().unwrap_or_else(missing)
        }
        (Value::Str(text), _) if index.as_int().is_some() => {
            meter.work(text.len())?;
            match position(index, text.chars().count()) {
                Some(at) => match text.chars().nth(at) {
                    Some(c) => meter.str(c.into())?,
                    None => missing(),
                },
                None => missing(),
            }
        }
        (_, Value::Str(name)) => match methods::exists(value, name) {
            true => methods::bind(value, name, meter)?,
            false => attribute_of(value, name, meter)?,
        },
        _ => missing(),
    })
}

fn position(index: &Value, len: usize) -> Option<usize> {
    let index = index.as_int()?;
    let at = if index < 0 { index + len as i128 } else { index };
    usize::try_from(at).ok().filter(|&at| at < len)
}

/// `value[start:stop:step]`.
pub(super) fn slice(
    value: &Value,
    [start, stop, step]: [Option<i128>; 3],
    meter: &Rc<Meter>,
) -> Result<Value, Fault> {
    let len = match value {
        Value::Undefined(_) => return Err(value.undefined_fault()),
        Value::Str(_) | Value::List(_) => value.length(meter)? as i128,
        _ => return Ok(Value::Undefined(None)),
    };
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fault::error("slice step cannot be zero"));
    }
    // Python's rules: bounds are clamped to the ends, one before the start for negative steps.
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(at) if at < 0 => (at.saturating_add(len)).clamp(low, high),
        Some(at) => at.clamp(low, high),
    };
    let (start, stop) = match step > 0 {
        true => (clamp(start, low), clamp(stop, high)),
        false => (clamp(start, high), clamp(stop, low)),
    };
    let span = if step > 0 { stop - start } else { start - stop };
    let count = span.max(0).unsigned_abs().div_ceil(step.unsigned_abs()) as usize;
    // An index that is used is inside, so the product below cannot overflow.
    let index = |i: usize| (start + i as i128 * step) as usize;
    match value {
        Value::Str(text) => {
            if step == 1 {
                let part = char_slice(text, start as usize, start as usize + count);
                return meter.str(part.to_owned());
            }
            meter.fits(len as usize * 4)?;
            let chars: Vec<char> = text.chars().collect();
            meter.str((0..count).map(|i| chars[index(i)]).collect())
        }
        Value::List(list) => {
            meter.fits(count * size_of::<Value>())?;
            let items = (0..count).map(|i| list.items[index(i)].clone()).collect();
            if list.tuple { meter.tuple(items) } else { meter.list(items) }
        }
        _ => Ok(Value::Undefined(None)),
    }
}
