//! Reading `config.json` fields with checks: a configuration is hostile until proven otherwise.

use crate::error::{Error, Result};
use serde_json::Value;

/// One object of a configuration and its place, for messages.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    object: &'a Value,
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of `object`, which messages call `path`.
    pub fn new(object: &'a Value, path: &'a str) -> Fields<'a> {
        Fields { object, path }
    }

    fn bad(&self, key: &str, what: &str) -> Error {
        Error::Config(format!("{}{key} {what}", self.path))
    }

    /// The value of a key; JSON's `null` is as good as none.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    /// A count from `least` to 2^31, or `None` where the key is missing.
    ///
    /// # Errors
    /// If the value is not such a number.
    pub fn count(&self, key: &str, least: u64) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(n) if n >= least && n <= 1 << 31 => Ok(Some(n as usize)),
            _ => {
                Err(self
                    .bad(key, &format!("must be a whole number from {least} to 2^31, is {value}")))
            }
        }
    }

    /// A count that must be there.
    ///
    /// # Errors
    /// If it is missing, or not a number from 1 to 2^31.
    pub fn required_count(&self, key: &str) -> Result<usize> {
        self.count(key, 1)?.ok_or_else(|| self.bad(key, "is missing"))
    }

    /// A finite float, or `default` where the key is missing.
    ///
    /// # Errors
    /// If the value is not a finite number.
    pub fn float(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match lazul_io::json::float(value) {
            Some(x) if x.is_finite() => Ok(x),
            _ => Err(self.bad(key, &format!("must be a finite number, is {value}"))),
        }
    }

    /// A finite float above zero, or `default` where the key is missing.
    ///
    /// # Errors
    /// If the value is not such a number.
    pub fn positive(&self, key: &str, default: f64) -> Result<f64> {
        match self.float(key, default)? {
            x if x > 0.0 => Ok(x),
            x => Err(self.bad(key, &format!("must be above zero, is {x}"))),
        }
    }

    /// A truth value, or `default` where the key is missing.
    ///
    /// # Errors
    /// If the value is not one.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.bad(key, &format!("must be true or false, is {value}")))
    }

    /// A text, or `None` where the key is missing.
    ///
    /// # Errors
    /// If the value is not one.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.bad(key, &format!("must be a text, is {value}")))
    }

    /// A list of finite floats, or `None` where the key is missing.
    ///
    /// # Errors
    /// If the value is not one.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let read = |v: &Value| lazul_io::json::float(v).filter(|x| x.is_finite());
        let list = value.as_array().and_then(|l| l.iter().map(read).collect::<Option<Vec<_>>>());
        list.map(Some).ok_or_else(|| self.bad(key, "must be a list of finite numbers"))
    }
}
