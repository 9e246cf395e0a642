//! Functions in files: traced, written, and read again.

use crate::args::made;
use crate::array::PyArray;
use crate::error::{OrRaise, raise};
use crate::function::{call, stash};
use crate::tree::{self, PyTree};
use lazul_core::Array;
use lazul_io::{Exporter, ImportedFunction};
use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::path::PathBuf;
use std::sync::Mutex;

/// Arguments as one tree; named ones in the order of their names.
fn arguments(
    py: Python<'_>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<PyTree> {
    let sorted = PyDict::new(py);
    if let Some(kwargs) = kwargs {
        let mut names: Vec<String> = kwargs.keys().extract()?;
        names.sort();
        for name in names {
            sorted.set_item(&name, kwargs.get_item(&name)?)?;
        }
    }
    PyTree::of(PyTuple::new(py, [args.as_any().clone(), sorted.into_any()])?.as_any())
}

/// The tree with lengths of axes changed.
fn longer(tree: &PyTree, grows: &dyn Fn(usize) -> bool) -> PyResult<PyTree> {
    let mut leaves = Vec::with_capacity(tree.leaves.len());
    for leaf in &tree.leaves {
        let shape: Vec<usize> =
            leaf.shape().or_raise()?.iter().map(|&d| if grows(d) { d + 1 } else { d }).collect();
        leaves.push(lazul_core::zeros(shape, leaf.dtype().or_raise()?));
    }
    Ok(tree.with(leaves))
}

/// Traces a function for arguments of one shape, or of as many as it takes.
fn trace(
    py: Python<'_>,
    exporter: &mut Exporter,
    fun: &Py<PyAny>,
    at: &PyTree,
    shapeless: bool,
) -> PyResult<()> {
    let f = |tree: &PyTree| -> lazul_core::Result<PyTree> {
        Python::attach(|py| {
            call(py, fun, tree, &at.leaves, |r| {
                let leaves = tree::arrays(&r)?;
                let flat = PyList::new(py, leaves.into_iter().map(PyArray::new))?;
                PyTree::of(flat.as_any())
            })
        })
        .map_err(stash::put)
    };
    if !shapeless {
        return py.detach(|| exporter.trace(f, at).map(|_| ())).or_raise();
    }
    // Lengths that the function itself fixes (those of its weights) stay: each length is tried alone.
    let mut lengths: Vec<usize> = Vec::new();
    for leaf in &at.leaves {
        lengths.extend(leaf.shape().or_raise()?.iter().filter(|&&d| d > 1));
    }
    lengths.sort_unstable();
    lengths.dedup();
    let mut free = Vec::new();
    for &length in &lengths {
        let other = longer(at, &|d| d == length)?;
        let alone = py.detach(|| Exporter::new().trace(f, &other).map(|_| ()));
        if alone.is_ok() {
            free.push(length);
        }
    }
    let all = longer(at, &|d| free.contains(&d))?;
    if free.is_empty() || py.detach(|| exporter.trace_lengths(f, at, &all).is_err()) {
        let why = "[export_function] the function cannot be written for arguments of many shapes";
        return Err(PyValueError::new_err(why));
    }
    Ok(())
}

/// Writes a function, traced for these arguments, to a file.
///
/// Args:
///     file (str): the path.
///     fun: the function.
///     args, kwargs: arguments like those it will be called with.
///     shapeless (bool): whether it shall take other lengths of axes too.
///     metadata (str, optional): a text to keep with it.
///
/// >>> import tempfile, os
/// >>> path = os.path.join(tempfile.mkdtemp(), "f.mlxfn")
/// >>> mx.export_function(path, lambda x: x + 1, mx.array(1.0))
/// >>> mx.import_function(path)(mx.array(2.0))
/// (array(3, dtype=float32),)
#[pyfunction]
#[pyo3(signature = (file, fun, *args, shapeless=false, metadata=None, **kwargs))]
fn export_function(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    fun: Py<PyAny>,
    args: &Bound<'_, PyTuple>,
    shapeless: bool,
    metadata: Option<&str>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    if file.is_callable() {
        return Err(PyNotImplementedError::new_err(
            "export_function: a function is written to a file; callbacks are not offered",
        ));
    }
    let path: PathBuf = file.extract()?;
    let at = arguments(py, args, kwargs)?;
    let mut exporter = Exporter::new();
    trace(py, &mut exporter, &fun, &at, shapeless)?;
    if let Some(text) = metadata {
        exporter.note(text);
    }
    py.detach(|| exporter.save(path)).or_raise()
}

/// Writes several traces of one function to a file: a context, in which it is called with examples.
#[pyclass(module = "lazul.core", frozen)]
pub(crate) struct FunctionExporter {
    path: PathBuf,
    fun: Py<PyAny>,
    shapeless: bool,
    metadata: Option<String>,
    held: Mutex<Option<Exporter>>,
}

#[pymethods]
impl FunctionExporter {
    /// Writes the file.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.held.lock().unwrap_or_else(|e| e.into_inner()).take();
        match held {
            Some(mut exporter) => {
                if let Some(text) = &self.metadata {
                    exporter.note(text);
                }
                py.detach(|| exporter.save(&self.path)).or_raise()
            }
            None => Ok(()),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_value, traceback);
        if exc_type.is_some_and(|t| !t.is_none()) {
            self.held.lock().unwrap_or_else(|e| e.into_inner()).take();
            return Ok(());
        }
        self.close(py)
    }

    /// Traces the function for these arguments.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let at = arguments(py, args, kwargs)?;
        // The function may do anything: it is called without the lock.
        let held = self.held.lock().unwrap_or_else(|e| e.into_inner()).take();
        let mut exporter =
            held.ok_or_else(|| PyRuntimeError::new_err("exporter: the file was closed"))?;
        let done = trace(py, &mut exporter, &self.fun, &at, self.shapeless);
        *self.held.lock().unwrap_or_else(|e| e.into_inner()) = Some(exporter);
        done
    }
}

/// A context that writes several traces of one function to a file.
///
/// >>> import tempfile, os
/// >>> path = os.path.join(tempfile.mkdtemp(), "f.mlxfn")
/// >>> with mx.exporter(path, lambda x: x + 1) as e:
/// ...     e(mx.array(1.0))
/// ...     e(mx.array([1.0]))
#[pyfunction]
#[pyo3(signature = (file, fun, *, shapeless=false, metadata=None))]
fn exporter(
    file: PathBuf,
    fun: &Bound<'_, PyAny>,
    shapeless: bool,
    metadata: Option<String>,
) -> PyResult<FunctionExporter> {
    if !fun.is_callable() {
        return Err(PyTypeError::new_err("exporter: a function is expected"));
    }
    let held = Mutex::new(Some(Exporter::new()));
    Ok(FunctionExporter { path: file, fun: fun.clone().unbind(), shapeless, metadata, held })
}

/// A function from a file.
#[pyclass(module = "lazul.core", frozen)]
struct Imported(ImportedFunction);

#[pymethods]
impl Imported {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let at = arguments(py, args, kwargs)?;
        let results: Vec<Array> = py.detach(|| self.0.call(&at.leaves)).map_err(raise)?;
        PyTuple::new(py, results.into_iter().map(made).collect::<PyResult<Vec<_>>>()?)
    }
}

/// Reads a function that :func:`export_function` wrote; called, it gives a tuple of its results.
///
/// Args:
///     file (str): the path.
///     return_metadata (bool): whether to return the text that was kept with it too.
#[pyfunction]
#[pyo3(signature = (file, return_metadata=false))]
fn import_function<'py>(
    py: Python<'py>,
    file: PathBuf,
    return_metadata: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let function = py.detach(|| lazul_io::import_function(file)).or_raise()?;
    let note = function.note().unwrap_or_default().to_string();
    let function = Bound::new(py, Imported(function))?;
    match return_metadata {
        true => Ok((function, note).into_pyobject(py)?.into_any()),
        false => Ok(function.into_any()),
    }
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<FunctionExporter>()?;
    m.add_class::<Imported>()?;
    m.add_function(wrap_pyfunction!(export_function, m)?)?;
    m.add_function(wrap_pyfunction!(exporter, m)?)?;
    m.add_function(wrap_pyfunction!(import_function, m)?)
}
