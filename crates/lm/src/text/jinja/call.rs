//! Arguments of a call, bound to parameter names as Python binds them.

use std::sync::Arc;

use super::Fault;
use super::value::Value;

/// The values of a call's arguments.
#[derive(Debug, Default)]
pub(super) struct CallArgs {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Arc<str>, Value)>,
}

impl CallArgs {
    pub(super) fn new(positional: Vec<Value>) -> Self {
        CallArgs { positional, named: Vec::new() }
    }

    /// The arguments by parameter; what was not given is `None`.
    pub(super) fn bind<const N: usize>(
        self,
        what: &str,
        params: [&str; N],
    ) -> Result<[Option<Value>; N], Fault> {
        let mut out = [const { None }; N];
        if self.positional.len() > N {
            return Err(Fault::error(format!(
                "{what}() takes at most {N} arguments ({} given)",
                self.positional.len()
            )));
        }
        for (slot, value) in out.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let at = params.iter().position(|param| **param == *name);
            match at {
                Some(at) if out[at].is_none() => out[at] = Some(value),
                Some(_) => {
                    return Err(Fault::error(format!("{what}() got {name:?} twice")));
                }
                None => {
                    return Err(Fault::error(format!(
                        "{what}() got an unexpected keyword argument '{name}'"
                    )));
                }
            }
        }
        Ok(out)
    }
}

/// A text argument.
pub(super) fn text(what: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::Str(text) => Ok(text.to_string()),
        Value::Undefined(_) => Err(value.undefined_fault()),
        other => Err(Fault::error(format!("{what}: expected str, got {}", other.type_name()))),
    }
}

/// An integer argument with a default.
pub(super) fn int(what: &str, value: Option<Value>, default: i128) -> Result<i128, Fault> {
    match value {
        None => Ok(default),
        Some(value) => value.as_int().ok_or_else(|| {
            if value.is_undefined() {
                return value.undefined_fault();
            }
            Fault::error(format!("{what}: expected int, got {}", value.type_name()))
        }),
    }
}

/// A count: negative is nothing, and the largest is what the machine can count.
pub(super) fn count(what: &str, value: Option<Value>, default: i128) -> Result<usize, Fault> {
    Ok(usize::try_from(int(what, value, default)?.max(0)).unwrap_or(usize::MAX))
}
