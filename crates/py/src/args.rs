//! Arguments that many functions take: axes, shapes, and how results are wrapped.

use crate::array::PyArray;
use crate::device::On;
use crate::error::OrRaise;
use lazul_core::ints::Ints;
use lazul_core::{Array, IntoAxes, IntoInts};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

/// An integer of Python, or of something that counts as one. Beyond 64 bits it becomes the nearest extreme,
/// which no axis, shape or index accepts.
pub(crate) fn integer(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    if let Ok(small) = object.extract::<i64>() {
        return Ok(small);
    }
    if object.is_instance_of::<PyInt>() {
        return Ok(if object.lt(0)? { i64::MIN } else { i64::MAX });
    }
    let kind = object.get_type();
    Err(PyTypeError::new_err(format!("an integer is expected, not {}", kind.name()?)))
}

/// One integer.
#[derive(Clone, Copy)]
pub(crate) struct Int(pub(crate) i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Int {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Int> {
        integer(&object).map(Int)
    }
}

/// A count: an integer that is not negative.
#[derive(Clone, Copy)]
pub(crate) struct Count(pub(crate) usize);

impl<'a, 'py> FromPyObject<'a, 'py> for Count {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Count> {
        let n = integer(&object)?;
        let why =
            || PyValueError::new_err(format!("a number that is not negative is expected, not {n}"));
        usize::try_from(n).map(Count).map_err(|_| why())
    }
}

/// A shape or several axes: one integer, or a sequence of them.
#[derive(Clone, Default)]
pub(crate) struct Many(pub(crate) Ints);

impl<'a, 'py> FromPyObject<'a, 'py> for Many {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Many> {
        if let Ok(one) = object.extract::<i64>() {
            return Ok(Many(Ints::from_iter([one])));
        }
        if object.is_instance_of::<PyInt>() {
            return Ok(Many(Ints::from_iter([integer(&object)?])));
        }
        let wrong = || PyTypeError::new_err("an integer or a sequence of integers is expected");
        if object.is_instance_of::<PyString>() {
            return Err(wrong());
        }
        let mut all = Ints::new();
        for item in object.try_iter().map_err(|_| wrong())? {
            all.push(integer(&item?)?);
        }
        Ok(Many(all))
    }
}

impl From<i64> for Many {
    fn from(one: i64) -> Many {
        Many(Ints::from_iter([one]))
    }
}

impl IntoInts for Many {
    fn into_ints(self) -> Ints {
        self.0
    }
}

impl IntoInts for &Many {
    fn into_ints(self) -> Ints {
        self.0.clone()
    }
}

impl Many {
    /// As counts; negative ones are an error.
    pub(crate) fn counts(&self) -> PyResult<Vec<usize>> {
        let wrong = |d: i64| PyValueError::new_err(format!("{d} is negative"));
        self.0.iter().map(|&d| usize::try_from(d).map_err(|_| wrong(d))).collect()
    }
}

/// The axes of a reduction: `None` for all.
#[derive(Clone, Default)]
pub(crate) struct Axes(pub(crate) Option<Many>);

impl<'a, 'py> FromPyObject<'a, 'py> for Axes {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Axes> {
        if object.is_none() { Ok(Axes(None)) } else { object.extract().map(|m| Axes(Some(m))) }
    }
}

impl IntoAxes for Axes {
    fn into_axes(self) -> Option<Ints> {
        self.0.map(|m| m.0)
    }
}

/// Wraps the result of an operation, or raises what was wrong with it.
#[inline]
pub(crate) fn made(array: Array) -> PyResult<PyArray> {
    array.check().or_raise()?;
    Ok(PyArray::new(array))
}

/// Builds an operation for a stream's device.
#[inline]
pub(crate) fn op(on: On, f: impl FnOnce() -> Array) -> PyResult<PyArray> {
    made(on.run(f)?)
}

/// Builds an operation of two results.
pub(crate) fn two(on: On, f: impl FnOnce() -> (Array, Array)) -> PyResult<(PyArray, PyArray)> {
    let (a, b) = on.run(f)?;
    Ok((made(a)?, made(b)?))
}

/// Builds an operation of many results.
pub(crate) fn many(
    on: On,
    f: impl FnOnce() -> lazul_core::Result<Vec<Array>>,
) -> PyResult<Vec<PyArray>> {
    on.run(f)?.or_raise()?.into_iter().map(made).collect()
}
