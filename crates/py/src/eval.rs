//! Evaluation: without the interpreter's lock, and until Ctrl-C.

use crate::array::PyArray;
use crate::error::OrRaise;
use crate::tree;
use lazul_core::{Array, eval as core_eval};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

thread_local! {
    /// When signals were last looked for, and what they raised.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Whether a signal wants the evaluation to end. Called between its steps.
fn signalled() -> bool {
    let now = Instant::now();
    let soon = LOOKED.get().is_some_and(|t| now - t < Duration::from_millis(50));
    if soon {
        return false;
    }
    LOOKED.set(Some(now));
    match Python::attach(|py| py.check_signals()) {
        Ok(()) => false,
        Err(error) => {
            RAISED.set(Some(error));
            true
        }
    }
}

/// Computes arrays, without the interpreter's lock.
pub(crate) fn evaluate(py: Python<'_>, arrays: &[Array]) -> PyResult<()> {
    if arrays.iter().all(lazul_core::eval::is_evaluated) {
        return Ok(());
    }
    LOOKED.set(Some(Instant::now()));
    let done = py.detach(|| core_eval::interruptible(signalled, || core_eval::eval(arrays)));
    if let Some(error) = RAISED.take() {
        return Err(error);
    }
    done.or_raise()
}

/// Computes all arrays of trees (arrays, and lists, tuples, dicts of them).
///
/// >>> x = mx.ones(3) + 1
/// >>> mx.eval(x)
#[pyfunction]
#[pyo3(signature = (*args))]
fn eval(py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
    evaluate(py, &tree::arrays(args)?)
}

/// Starts to compute all arrays of trees and returns at once; who reads one of them waits for it.
///
/// >>> x = mx.ones(3) + 1
/// >>> mx.async_eval(x)
#[pyfunction]
#[pyo3(signature = (*args))]
fn async_eval(py: Python<'_>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
    let arrays = tree::arrays(args)?;
    py.detach(|| core_eval::async_eval(&arrays)).or_raise()
}

/// The bytes that the memory behind trees of arrays takes, each block counted once.
///
/// >>> mx.get_array_buffer_size(mx.zeros(0))
/// 0
#[pyfunction]
#[pyo3(signature = (*args))]
fn get_array_buffer_size(args: &Bound<'_, PyTuple>) -> PyResult<usize> {
    lazul_core::memory::buffer_size(&tree::arrays(args)?).or_raise()
}

/// Arrays that are computed after others, which they do not need.
///
/// >>> a, b = mx.ones(2), mx.zeros(2)
/// >>> a = mx.depends(a, b)
#[pyfunction]
fn depends<'py>(
    inputs: &Bound<'py, PyAny>,
    dependencies: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = inputs.py();
    let (given, others) = (tree::arrays(inputs)?, tree::arrays(dependencies)?);
    let made = lazul_core::depends(&given, &others).or_raise()?;
    if inputs.cast::<PyArray>().is_ok()
        && let Some(first) = made.first()
    {
        return Ok(Bound::new(py, crate::args::made(first.clone())?)?.into_any());
    }
    tree::rebuilt(inputs, made)
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(eval, m)?)?;
    m.add_function(wrap_pyfunction!(async_eval, m)?)?;
    m.add_function(wrap_pyfunction!(get_array_buffer_size, m)?)?;
    m.add_function(wrap_pyfunction!(depends, m)?)
}
