//! Errors of arrays as Python's exceptions.

use crate::function::stash;
use lazul_core::{Error, ErrorKind};
use pyo3::exceptions::{
    PyFileNotFoundError, PyIndexError, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// An array's error as the exception that MLX's users expect. Python's own traceback names the line.
///
/// An exception that a Python function threw inside of a transform comes out as it was.
pub(crate) fn raise(error: Error) -> PyErr {
    if let Some(own) = stash::take(&error) {
        return own;
    }
    let text = error.to_string();
    // The place in Rust that the text ends with says nothing to somebody who writes Python.
    let text = match text.rfind("; at ") {
        Some(at) if error.site().is_some() => text[..at].to_string(),
        _ => text,
    };
    match error.kind() {
        ErrorKind::Axis => axis_error(text),
        ErrorKind::Shape | ErrorKind::DType | ErrorKind::Value => PyValueError::new_err(text),
        ErrorKind::Index => PyIndexError::new_err(text),
        ErrorKind::OutOfMemory => PyMemoryError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// Some axis errors of MLX's are a `ValueError`, some an `IndexError`: this is both, as numpy's is.
pub(crate) fn axis_error_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = TYPE.get_or_try_init(py, || -> PyResult<Py<PyType>> {
        let bases = (py.get_type::<PyValueError>(), py.get_type::<PyIndexError>());
        let words = PyDict::new(py);
        words.set_item("__module__", "lazul.core")?;
        words.set_item(
            "__doc__",
            "An axis that an array does not have, or one that is named twice.",
        )?;
        let made = py.get_type::<PyType>().call1(("AxisError", bases, words))?;
        Ok(made.cast_into::<PyType>()?.unbind())
    })?;
    Ok(made.bind(py))
}

fn axis_error(text: String) -> PyErr {
    Python::attach(|py| match axis_error_type(py) {
        Ok(kind) => PyErr::from_type(kind.clone(), text),
        Err(error) => error,
    })
}

/// A file's error as a Python exception.
pub(crate) fn raise_io(error: lazul_io::Error) -> PyErr {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(e) = source {
        if let Some(own) = e.downcast_ref::<Error>().and_then(stash::take) {
            return own;
        }
        source = e.source();
    }
    let text = error.to_string();
    match error.kind() {
        lazul_io::ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
        lazul_io::ErrorKind::Io => PyOSError::new_err(text),
        lazul_io::ErrorKind::Argument | lazul_io::ErrorKind::Array => PyValueError::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// The last step of every operation.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for lazul_core::Result<T> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(raise)
    }
}

impl<T> OrRaise<T> for lazul_io::Result<T> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(raise_io)
    }
}
