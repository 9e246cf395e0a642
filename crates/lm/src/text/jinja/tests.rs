//! Jinja's tests: `value is name(args)`.

use std::rc::Rc;

use super::Fault;
use super::value::{Meter, Value};

/// Runs a test; `None` if there is no test of this name.
pub(super) fn run(
    name: &str,
    value: &Value,
    args: &[Value],
    meter: &Rc<Meter>,
) -> Result<Option<bool>, Fault> {
    let arg =
        || args.first().ok_or_else(|| Fault::error(format!("the test {name:?} needs an argument")));
    let int = |value: &Value| {
        value.as_int().ok_or_else(|| {
            Fault::error(format!("the test {name:?} needs a number, not {}", value.type_name()))
        })
    };
    let ordered = |wanted: &[std::cmp::Ordering]| -> Result<bool, Fault> {
        Ok(value.order(arg()?, meter)?.is_some_and(|order| wanted.contains(&order)))
    };
    use std::cmp::Ordering::{Equal, Greater, Less};
    Ok(Some(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => {
            matches!(value, Value::List(_) | Value::Str(_) | Value::Dict(_) | Value::Undefined(_))
        }
        "iterable" => matches!(
            value,
            Value::List(_) | Value::Str(_) | Value::Dict(_) | Value::Undefined(_) | Value::Loop(_)
        ),
        "callable" => matches!(value, Value::Function(_) | Value::Macro(_) | Value::Method(_)),
        "sameas" => match (value, arg()?) {
            (Value::Str(a), Value::Str(b)) => **a == **b,
            (a, b) => a.type_name() == b.type_name() && a.equals(b, meter)?,
        },
        "escaped" => false,
        "lower" => is_cased(value, meter, char::is_uppercase, char::is_lowercase)?,
        "upper" => is_cased(value, meter, char::is_lowercase, char::is_uppercase)?,
        "even" => int(value)? % 2 == 0,
        "odd" => int(value)? % 2 != 0,
        "divisibleby" => {
            let by = int(arg()?)?;
            if by == 0 {
                return Err(Fault::error("integer modulo by zero"));
            }
            int(value)?.checked_rem(by) == Some(0)
        }
        "in" => arg()?.contains(value, meter)?,
        "eq" | "equalto" | "==" => value.equals(arg()?, meter)?,
        "ne" | "!=" => !value.equals(arg()?, meter)?,
        "lt" | "lessthan" | "<" => ordered(&[Less])?,
        "le" | "<=" => ordered(&[Less, Equal])?,
        "gt" | "greaterthan" | ">" => ordered(&[Greater])?,
        "ge" | ">=" => ordered(&[Greater, Equal])?,
        _ => return Ok(None),
    }))
}

/// Python's `islower` and `isupper`: some cased character, and none of the other case.
fn is_cased(
    value: &Value,
    meter: &Rc<Meter>,
    other: fn(char) -> bool,
    wanted: fn(char) -> bool,
) -> Result<bool, Fault> {
    let text = value.to_text(meter)?;
    Ok(text.chars().any(wanted) && !text.chars().any(other))
}
