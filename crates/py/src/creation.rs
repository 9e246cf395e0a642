//! Functions that make arrays.

use crate::args::{Count, Int, Many, op};
use crate::array::PyArray;
use crate::device::On;
use crate::dlpack;
use crate::dtype::Dtype;
use crate::error::OrRaise;
use crate::value::{Arr, Value, array_of};
use lazul_core::operand::Weak;
use lazul_core::{Array, DType};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

fn or_f32(dtype: Option<Dtype>) -> DType {
    dtype.map_or(DType::F32, |d| d.0)
}

/// An array of zeros.
///
/// >>> mx.zeros((2,))
/// array([0, 0], dtype=float32)
#[pyfunction]
#[pyo3(signature = (shape, dtype=None, *, stream=On(None)))]
fn zeros(shape: Many, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || lazul_core::zeros(shape, or_f32(dtype)))
}

/// An array of ones.
///
/// >>> mx.ones((2,))
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (shape, dtype=None, *, stream=On(None)))]
fn ones(shape: Many, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || lazul_core::ones(shape, or_f32(dtype)))
}

/// An array of one value, or of values that are repeated to the shape.
///
/// >>> mx.full((2,), 3)
/// array([3, 3], dtype=int32)
#[pyfunction]
#[pyo3(signature = (shape, vals, dtype=None, *, stream=On(None)))]
fn full(shape: Many, vals: Value, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    let value = vals.array()?;
    let dtype = match dtype {
        Some(dtype) => dtype.0,
        None => value.dtype().or_raise()?,
    };
    op(stream, || value.astype(dtype).broadcast_to(shape))
}

/// Zeros in the shape and dtype of another array.
///
/// >>> mx.zeros_like(mx.array([1, 2]))
/// array([0, 0], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, dtype=None, *, stream=On(None)))]
fn zeros_like(a: Arr, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || dtype.map_or_else(|| a.0.zeros_like(), |d| a.0.zeros_like().astype(d.0)))
}

/// Ones in the shape and dtype of another array.
///
/// >>> mx.ones_like(mx.array([1, 2]))
/// array([1, 1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, dtype=None, *, stream=On(None)))]
fn ones_like(a: Arr, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || dtype.map_or_else(|| a.0.ones_like(), |d| a.0.ones_like().astype(d.0)))
}

/// A value in the shape and dtype of another array.
///
/// >>> mx.full_like(mx.array([1, 2]), 7)
/// array([7, 7], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, vals, dtype=None, *, stream=On(None)))]
fn full_like(a: Arr, vals: Value, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    let own = a.0.dtype().or_raise()?;
    let dtype = dtype.map_or(own, |d| d.0);
    let value = vals.beside(dtype)?.astype(dtype);
    let shape = a.0.shape().or_raise()?.to_vec();
    op(stream, || value.broadcast_to(shape))
}

/// A number with its kind.
#[derive(Clone, Copy)]
struct Number {
    value: f64,
    whole: Option<i64>,
}

impl<'a, 'py> FromPyObject<'a, 'py> for Number {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Number> {
        match object.extract::<Value>()? {
            Value::Weak(Weak::Int(v)) => Ok(Number {
                value: v as f64,
                whole: Some(v.clamp(i64::MIN.into(), i64::MAX.into()) as i64),
            }),
            Value::Weak(Weak::Bool(v)) => Ok(Number { value: v.into(), whole: Some(v.into()) }),
            Value::Weak(Weak::Float(v)) => Ok(Number { value: v, whole: None }),
            Value::Weak(Weak::Complex(_)) => Err(PyTypeError::new_err("a real number is expected")),
            Value::Array(a) => {
                let whole = a.dtype().or_raise()?.is_integer();
                let value: f64 = crate::array::item(object.py(), &a)?.extract()?;
                Ok(Number { value, whole: whole.then_some(value as i64) })
            }
        }
    }
}

/// Numbers from ``start`` (0 by default) to below ``stop``, ``step`` (1 by default) apart.
///
/// >>> mx.arange(1, 7, 2)
/// array([1, 3, 5], dtype=int32)
#[pyfunction]
#[pyo3(signature = (*args, start=None, stop=None, step=None, dtype=None, stream=On(None)))]
fn arange(
    args: &Bound<'_, PyTuple>,
    mut start: Option<Number>,
    mut stop: Option<Number>,
    mut step: Option<Number>,
    mut dtype: Option<Dtype>,
    stream: On,
) -> PyResult<PyArray> {
    // `arange(stop)`, `arange(start, stop, step)`, with a dtype after them.
    let mut given: Vec<Bound<'_, PyAny>> = args.iter().collect();
    if let Some(last) = given.last()
        && let Ok(d) = last.cast::<Dtype>()
    {
        dtype = Some(*d.get());
        given.pop();
    }
    while given.last().is_some_and(|g| g.is_none()) {
        given.pop();
    }
    let many = || PyTypeError::new_err("arange: start, stop, step and dtype are all there is");
    let number = |o: &Bound<'_, PyAny>| -> PyResult<Option<Number>> {
        if o.is_none() { Ok(None) } else { o.extract().map(Some) }
    };
    match &given[..] {
        [] => {}
        [one] if start.is_some() => stop = number(one)?,
        [one] if stop.is_some() => start = number(one)?,
        [one] => stop = number(one)?,
        [a, b] => (start, stop) = (number(a)?, number(b)?),
        [a, b, c] => (start, stop, step) = (number(a)?, number(b)?, number(c)?),
        _ => return Err(many()),
    }
    if stop.is_none() && start.is_some() {
        (start, stop) = (None, start);
    }
    let Some(stop) = stop else {
        return Err(PyTypeError::new_err("arange: where to stop is missing"));
    };
    let zero = Number { value: 0.0, whole: Some(0) };
    let (start, step) =
        (start.unwrap_or(zero), step.unwrap_or(Number { value: 1.0, whole: Some(1) }));
    let parts = [start, stop, step];
    let dtype = dtype.map_or_else(
        || {
            if parts.iter().any(|p| p.whole.is_none()) {
                return DType::F32;
            }
            let small = parts.iter().all(|p| p.whole.is_some_and(|v| i32::try_from(v).is_ok()));
            if small { DType::I32 } else { DType::I64 }
        },
        |d| d.0,
    );
    if parts.iter().any(|p| p.value.is_nan()) {
        return Err(PyValueError::new_err("[arange] Cannot compute length."));
    }
    if dtype == DType::Bool {
        return Err(PyValueError::new_err("bool is not supported for arange."));
    }
    op(stream, || match (start.whole, stop.whole, step.whole) {
        (Some(a), Some(b), Some(c)) => lazul_core::arange_step(a, b, c, dtype),
        _ => {
            // Floats are counted as floats, whatever they are stored as.
            if dtype.is_integer() {
                return lazul_core::arange_step(
                    start.value.trunc(),
                    stop.value,
                    step.value,
                    DType::F64,
                )
                .astype(dtype);
            }
            lazul_core::arange_step(start.value, stop.value, step.value, dtype)
        }
    })
}

/// ``num`` numbers from ``start`` to ``stop`` at equal distances.
///
/// >>> mx.linspace(0, 1, 3)
/// array([0, 0.5, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (start, stop, num=Some(Count(50)), endpoint=true, dtype=None, stream=On(None)))]
fn linspace(
    start: f64,
    stop: f64,
    num: Option<Count>,
    endpoint: bool,
    dtype: Option<Dtype>,
    stream: On,
) -> PyResult<PyArray> {
    let (num, dtype) = (num.map_or(50, |n| n.0), or_f32(dtype));
    op(stream, || match endpoint {
        true => lazul_core::linspace(start, stop, num, dtype),
        false => lazul_core::linspace_open(start, stop, num, dtype),
    })
}

/// Ones on a diagonal, zeros elsewhere.
///
/// >>> mx.eye(2)
/// array([[1, 0],
///        [0, 1]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (n, m=None, k=Int(0), dtype=None, *, stream=On(None)))]
fn eye(n: Count, m: Option<Count>, k: Int, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || lazul_core::eye(n.0, m.unwrap_or(n).0, k.0, or_f32(dtype)))
}

/// The identity matrix.
///
/// >>> mx.identity(2)
/// array([[1, 0],
///        [0, 1]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (n, dtype=None, *, stream=On(None)))]
fn identity(n: Count, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || lazul_core::identity(n.0, or_f32(dtype)))
}

/// Ones on and below a diagonal, zeros above.
///
/// >>> mx.tri(2)
/// array([[1, 0],
///        [1, 1]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (n, m=None, k=Int(0), dtype=None, *, stream=On(None)))]
fn tri(n: Count, m: Option<Count>, k: Int, dtype: Option<Dtype>, stream: On) -> PyResult<PyArray> {
    op(stream, || lazul_core::tri(n.0, m.unwrap_or(n).0, k.0, or_f32(dtype)))
}

/// The part of matrices on and below a diagonal.
///
/// >>> mx.tril(mx.ones((2, 2)))
/// array([[1, 0],
///        [1, 1]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, k=Int(0), *, stream=On(None)))]
fn tril(x: Arr, k: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || x.0.tril(k.0))
}

/// The part of matrices on and above a diagonal.
///
/// >>> mx.triu(mx.ones((2, 2)))
/// array([[1, 1],
///        [0, 1]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, k=Int(0), *, stream=On(None)))]
fn triu(x: Arr, k: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || x.0.triu(k.0))
}

macro_rules! windows {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (M, *, stream=On(None)))]
            #[allow(non_snake_case)]
            fn $name(M: Int, stream: On) -> PyResult<PyArray> {
                // Less than one point is none.
                op(stream, || lazul_core::$name(usize::try_from(M.0).unwrap_or(0)))
            }
        )*
    };
}

windows! {
    bartlett "The Bartlett window: a triangle of ``M`` points." ">>> mx.bartlett(3)\narray([0, 1, 0], dtype=float32)";
    hanning "The Hann window of ``M`` points." ">>> mx.hanning(3)\narray([0, 1, 0], dtype=float32)";
    hamming "The Hamming window of ``M`` points." ">>> mx.hamming(1)\narray([1], dtype=float32)";
    blackman "The Blackman window of ``M`` points." ">>> mx.blackman(1)\narray([1], dtype=float32)";
}

/// Coordinate matrices from coordinate vectors.
///
/// >>> [x.shape for x in mx.meshgrid(mx.arange(2), mx.arange(3))]
/// [(3, 2), (3, 2)]
#[pyfunction]
#[pyo3(signature = (*arrays, sparse=Some(false), indexing=Some("xy".to_string()), stream=On(None)))]
fn meshgrid<'py>(
    py: Python<'py>,
    arrays: Vec<Arr>,
    sparse: Option<bool>,
    indexing: Option<String>,
    stream: On,
) -> PyResult<Bound<'py, PyTuple>> {
    let all: Vec<Array> = arrays.into_iter().map(|a| a.0).collect();
    let ij = match indexing.as_deref() {
        None | Some("xy") => false,
        Some("ij") => true,
        Some(other) => {
            let why = format!("[meshgrid] indexing is 'xy' or 'ij', not '{other}'");
            return Err(PyValueError::new_err(why));
        }
    };
    let made = crate::args::many(stream, || match sparse.unwrap_or(false) {
        true => lazul_core::meshgrid_sparse(&all, ij),
        false => lazul_core::meshgrid(&all, ij),
    });
    PyTuple::new(py, made?)
}

/// An array of another library's object, over its memory where that suits.
///
/// Args:
///     a: what an array can be made of.
///     dtype (Dtype, optional): the dtype of the result.
///     copy (bool, optional): whether to copy; by default only where it is needed. ``False`` refuses what
///         needs a copy.
///
/// >>> mx.asarray([1, 2])
/// array([1, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, dtype=None, *, copy=None))]
fn asarray(a: &Bound<'_, PyAny>, dtype: Option<Dtype>, copy: Option<bool>) -> PyResult<PyArray> {
    let own = a.cast::<PyArray>().is_ok();
    let lends =
        !own && copy != Some(true) && a.hasattr("__dlpack__")? && a.hasattr("__dlpack_device__")?;
    if lends {
        match dlpack::import(a, copy) {
            Ok(array) => {
                let same = dtype.is_none_or(|d| array.dtype().is_ok_and(|own| own == d.0));
                if same {
                    return op(On(None), || array);
                }
                if copy == Some(false) {
                    return Err(PyValueError::new_err("asarray: another dtype needs a copy"));
                }
                return op(On(None), || dtype.map_or_else(|| array.clone(), |d| array.astype(d.0)));
            }
            Err(error) if copy == Some(false) => return Err(error),
            // What DLPack does not hand out may have a buffer.
            Err(_) => {}
        }
    } else if copy == Some(false) {
        let same = match (a.cast::<PyArray>(), dtype) {
            (Ok(array), Some(d)) => array.get().dtype_of()? == d.0,
            (Ok(_), None) => true,
            (Err(_), _) => false,
        };
        if !same {
            return Err(PyValueError::new_err("asarray: this needs a copy"));
        }
    }
    let array = array_of(a, dtype.map(|d| d.0))?;
    op(On(None), || array)
}

/// An array over the memory of an object that has ``__dlpack__``.
///
/// >>> import numpy as np
/// >>> mx.from_dlpack(np.ones(2, np.float32))
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, /, *, copy=None))]
fn from_dlpack(x: &Bound<'_, PyAny>, copy: Option<bool>) -> PyResult<PyArray> {
    if let Ok(array) = x.cast::<PyArray>() {
        return op(On(None), || array.get().array());
    }
    if !x.hasattr("__dlpack__")? {
        return Err(PyTypeError::new_err("from_dlpack: the object has no __dlpack__"));
    }
    let array = dlpack::import(x, copy)?;
    op(On(None), || array)
}

pub(crate) fn add_to(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(zeros, m)?,
        wrap_pyfunction!(ones, m)?,
        wrap_pyfunction!(full, m)?,
        wrap_pyfunction!(zeros_like, m)?,
        wrap_pyfunction!(ones_like, m)?,
        wrap_pyfunction!(full_like, m)?,
        wrap_pyfunction!(arange, m)?,
        wrap_pyfunction!(linspace, m)?,
        wrap_pyfunction!(eye, m)?,
        wrap_pyfunction!(identity, m)?,
        wrap_pyfunction!(tri, m)?,
        wrap_pyfunction!(tril, m)?,
        wrap_pyfunction!(triu, m)?,
        wrap_pyfunction!(bartlett, m)?,
        wrap_pyfunction!(hanning, m)?,
        wrap_pyfunction!(hamming, m)?,
        wrap_pyfunction!(blackman, m)?,
        wrap_pyfunction!(meshgrid, m)?,
        wrap_pyfunction!(asarray, m)?,
        wrap_pyfunction!(from_dlpack, m)?,
    ] {
        m.add_function(f)?;
    }
    m.add("empty", m.getattr("zeros")?)?;
    m.add("empty_like", m.getattr("zeros_like")?)
}
