//! Indexing: reading, assigning, and the updates of `at`.

use crate::args::made;
use crate::array::PyArray;
use crate::error::OrRaise;
use crate::value::Value;
use lazul_core::ops::index::Indices;
use lazul_core::{Array, DType, Index, Slice};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyFloat, PyInt, PyList, PySlice, PyTuple};

fn unknown() -> PyErr {
    PyValueError::new_err("Cannot index lazul array using the given type.")
}

fn bound(object: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if object.is_none() {
        return Ok(None);
    }
    // Bounds beyond 64 bits are beyond every axis.
    crate::args::integer(object).map(Some)
}

fn word(object: &Bound<'_, PyAny>) -> PyResult<Index> {
    if let Ok(slice) = object.cast::<PySlice>() {
        let step = bound(&slice.getattr("step")?)?.unwrap_or(1);
        if step == 0 {
            return Err(PyValueError::new_err("slice step cannot be zero"));
        }
        let (start, stop) = (bound(&slice.getattr("start")?)?, bound(&slice.getattr("stop")?)?);
        return Ok(Index::Slice(Slice { start, stop, step }));
    }
    if object.is_none() {
        return Ok(Index::NewAxis);
    }
    if object.is_instance_of::<PyEllipsis>() {
        return Ok(Index::Ellipsis);
    }
    if let Ok(array) = object.cast::<PyArray>() {
        return Ok(Index::Array(array.get().array()));
    }
    if let Ok(truth) = object.cast::<PyBool>() {
        return Ok(Index::Array(Array::scalar(truth.is_true())));
    }
    if object.is_instance_of::<PyInt>() {
        return crate::args::integer(object).map(Index::At);
    }
    if object.is_instance_of::<PyFloat>() {
        return Err(unknown());
    }
    if object.is_instance_of::<PyList>() {
        let array = crate::value::array_of(object, None)?;
        // An empty list selects nothing.
        let empty = array.size().or_raise()? == 0;
        return Ok(Index::Array(if empty { array.astype(DType::I32) } else { array }));
    }
    match object.extract::<Value>() {
        Ok(Value::Array(array)) => {
            // A scalar of numpy's is an integer like any other.
            let single = array.ndim().or_raise()? == 0 && array.dtype().or_raise()?.is_integer();
            if single && object.hasattr("__index__")? {
                return crate::args::integer(&object.call_method0("__index__")?).map(Index::At);
            }
            Ok(Index::Array(array))
        }
        Ok(Value::Weak(_)) | Err(_) => Err(unknown()),
    }
}

/// The words of a Python index.
pub(crate) fn words(object: &Bound<'_, PyAny>) -> PyResult<Indices> {
    match object.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter().map(|o| word(&o)).collect(),
        Err(_) => Ok(Indices::from_iter([word(object)?])),
    }
}

/// Whether reading the index evaluates something.
fn has_mask(words: &Indices) -> bool {
    words.iter().any(|w| matches!(w, Index::Array(a) if a.dtype().is_ok_and(|d| d == DType::Bool)))
}

fn read(py: Python<'_>, array: &Array, words: Indices) -> PyResult<PyArray> {
    made(if has_mask(&words) { py.detach(|| array.index(words)) } else { array.index(words) })
}

#[pymethods]
impl PyArray {
    fn __getitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<PyArray> {
        let array = self.array();
        // One integer is the most frequent index of all.
        if let Ok(i) = index.cast::<PyInt>()
            && !index.is_instance_of::<PyBool>()
        {
            let i = crate::args::integer(i)?;
            let Some(&n) = array.shape().or_raise()?.first() else {
                let why = "too many indices for array: array is 0-dimensional";
                return Err(PyValueError::new_err(why));
            };
            if i >= n as i64 || i < -(n as i64) {
                let why = format!("index {i} is out of bounds for axis 0 with size {n}");
                return Err(PyIndexError::new_err(why));
            }
            return made(array.at_index(0, i));
        }
        read(py, &array, words(index)?)
    }

    fn __setitem__(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (array, words) = (self.array(), words(index)?);
        let dtype = array.dtype().or_raise()?;
        let value = match value.cast::<PyList>() {
            Ok(list) => crate::value::array_of(list, None)?,
            Err(_) => value.extract::<Value>()?.beside(dtype)?,
        };
        // Leading axes of length one that the selection does not have.
        let value = value.astype(dtype);
        let value = trimmed(value, &array, &words)?;
        let result = if has_mask(&words) {
            py.detach(|| array.at(words).set(value))
        } else {
            array.at(words).set(value)
        };
        self.update(result)
    }

    /// Updates that count every index: ``x.at[i].add(v)`` is ``x`` with ``v`` added at ``i``, as often as ``i`` is
    /// named.
    ///
    /// >>> mx.zeros(3).at[mx.array([0, 0, 2])].add(1)
    /// array([2, 0, 1], dtype=float32)
    #[getter]
    fn at(&self) -> ArrayAt {
        ArrayAt { array: self.array(), words: None }
    }
}

/// The value without leading axes of length one that what it is assigned to does not have.
fn trimmed(value: Array, array: &Array, words: &Indices) -> PyResult<Array> {
    let shape = value.shape().or_raise()?;
    if shape.first() != Some(&1) || has_mask(words) {
        return Ok(value);
    }
    let rank = array.index(words.clone()).ndim().unwrap_or(0);
    let extra = shape.len().saturating_sub(rank);
    let ones = shape.iter().take(extra).take_while(|&&d| d == 1).count();
    let rest = shape[ones..].to_vec();
    Ok(if ones == 0 { value } else { value.reshape(rest) })
}

/// Where an update goes; see ``array.at``.
#[pyclass(module = "lazul.core", frozen)]
pub(crate) struct ArrayAt {
    array: Array,
    words: Option<Indices>,
}

impl ArrayAt {
    fn update(
        &self,
        py: Python<'_>,
        value: Value,
        f: impl FnOnce(lazul_core::At, Array) -> Array + Send,
    ) -> PyResult<PyArray> {
        let Some(words) = self.words.clone() else {
            return Err(PyValueError::new_err("Must give indices to array.at before an update."));
        };
        let value = value.beside(self.array.dtype().or_raise()?)?;
        let value = trimmed(value, &self.array, &words)?;
        let array = &self.array;
        made(if has_mask(&words) {
            py.detach(|| f(array.at(words), value))
        } else {
            f(array.at(words), value)
        })
    }
}

#[pymethods]
impl ArrayAt {
    fn __getitem__(&self, indices: &Bound<'_, PyAny>) -> PyResult<ArrayAt> {
        Ok(ArrayAt { array: self.array.clone(), words: Some(words(indices)?) })
    }

    /// The array with the values in place of what was there.
    fn set(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.set(v))
    }

    /// The array with the values added.
    fn add(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.add(v))
    }

    /// The array with the values subtracted.
    fn subtract(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.subtract(v))
    }

    /// The array with elements multiplied by the values.
    fn multiply(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.multiply(v))
    }

    /// The array with elements divided by the values.
    fn divide(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.divide(v))
    }

    /// The array with the greater of elements and values.
    fn maximum(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.maximum(v))
    }

    /// The array with the lesser of elements and values.
    fn minimum(&self, py: Python<'_>, value: Value) -> PyResult<PyArray> {
        self.update(py, value, |at, v| at.minimum(v))
    }
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ArrayAt>()
}
