//! How arrays are printed, and the options of that.

use crate::error::OrRaise;
use lazul_core::Array;
use lazul_core::print::{self, PrintOptions as Core};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Mutex;

/// The text of an array, which was evaluated.
pub(crate) fn text(array: &Array) -> PyResult<String> {
    array.check().or_raise()?;
    // The dtype's name follows the values.
    Ok(array.to_string())
}

/// A number with so many significant digits, as C's `%g` writes it.
pub(crate) fn general(v: f64, digits: usize) -> String {
    if v == 0.0 || !v.is_finite() {
        return format!("{v}");
    }
    let scientific = format!("{v:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => s.to_string(),
    };
    if (-4..digits as i32).contains(&exponent) {
        return trim(&format!("{v:.*}", (digits as i32 - 1 - exponent).max(0) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

/// How arrays are printed.
#[pyclass(name = "PrintOptions", module = "lazul.core", frozen)]
pub(crate) struct PrintOptions {
    precision: Mutex<i64>,
}

#[pymethods]
impl PrintOptions {
    #[new]
    #[pyo3(signature = (precision=-1))]
    fn new(precision: i64) -> PrintOptions {
        PrintOptions { precision: Mutex::new(precision) }
    }

    /// Decimals of floats; -1 for six significant digits.
    #[getter]
    fn precision(&self) -> i64 {
        *self.precision.lock().unwrap_or_else(|e| e.into_inner())
    }

    #[setter]
    fn set_precision(&self, precision: i64) {
        *self.precision.lock().unwrap_or_else(|e| e.into_inner()) = precision;
    }
}

fn options(precision: i64) -> PyResult<Core> {
    match precision {
        -1 => Ok(Core { precision: None }),
        0..=100 => Ok(Core { precision: Some(precision as usize) }),
        _ => Err(PyValueError::new_err("precision is -1, or from 0 to 100")),
    }
}

/// Sets how arrays are printed.
///
/// >>> mx.set_printoptions(precision=3)
/// >>> mx.set_printoptions()
#[pyfunction]
#[pyo3(signature = (precision=-1))]
fn set_printoptions(precision: i64) -> PyResult<()> {
    print::set_printoptions(options(precision)?);
    Ok(())
}

/// How arrays are printed now.
///
/// >>> mx.get_printoptions().precision
/// -1
#[pyfunction]
fn get_printoptions() -> PrintOptions {
    PrintOptions::new(print::get_printoptions().precision.map_or(-1, |p| p as i64))
}

/// A context with other options.
#[pyclass(module = "lazul.core", frozen)]
struct _PrintOptionsContext {
    options: Core,
    before: Mutex<Vec<Core>>,
}

#[pymethods]
impl _PrintOptionsContext {
    #[new]
    fn new(options: &PrintOptions) -> PyResult<_PrintOptionsContext> {
        let options = self::options(options.precision())?;
        Ok(_PrintOptionsContext { options, before: Mutex::default() })
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf.before.lock().unwrap_or_else(|e| e.into_inner()).push(print::get_printoptions());
        print::set_printoptions(slf.options);
        slf
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, args: &Bound<'_, PyAny>) {
        let _ = args;
        if let Some(before) = self.before.lock().unwrap_or_else(|e| e.into_inner()).pop() {
            print::set_printoptions(before);
        }
    }
}

/// A context in which arrays are printed otherwise.
///
/// >>> with mx.printoptions(precision=2):
/// ...     print(mx.array(1 / 3))
/// array(0.33, dtype=float32)
#[pyfunction]
#[pyo3(signature = (precision=-1))]
fn printoptions(precision: i64) -> PyResult<_PrintOptionsContext> {
    _PrintOptionsContext::new(&PrintOptions::new(precision))
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PrintOptions>()?;
    m.add_class::<_PrintOptionsContext>()?;
    m.add_function(wrap_pyfunction!(set_printoptions, m)?)?;
    m.add_function(wrap_pyfunction!(get_printoptions, m)?)?;
    m.add_function(wrap_pyfunction!(printoptions, m)?)
}
