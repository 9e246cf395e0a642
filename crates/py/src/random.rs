//! Random numbers, and the state that draws without a key change.

use crate::args::{Count, Int, Many, made, op};
use crate::array::PyArray;
use crate::device::On;
use crate::dtype::Dtype;
use crate::error::OrRaise;
use crate::value::{Arr, Value};
use lazul_core::operand::Weak;
use lazul_core::{Array, DType, random as core};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;
use std::cell::Cell;

thread_local! {
    /// Draws without a key so far, of this thread: a trace asks whether it drew itself.
    static DRAWS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn draws() -> u64 {
    DRAWS.get()
}

/// `random.state`: a list that holds the key that the next draw starts from.
pub(crate) fn state(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    static STATE: PyOnceLock<Py<PyList>> = PyOnceLock::new();
    let list = STATE.get_or_try_init(py, || -> PyResult<Py<PyList>> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let key = core::key(clock.map_or(0, |t| t.as_nanos() as u64));
        Ok(PyList::new(py, [PyArray::new(key)])?.unbind())
    })?;
    Ok(list.bind(py).clone())
}

/// The key that was given, or the next of the state.
fn key_or_next(py: Python<'_>, key: Option<Arr>) -> PyResult<Array> {
    if let Some(key) = key {
        return Ok(key.0);
    }
    DRAWS.set(DRAWS.get() + 1);
    let state = state(py)?;
    let wrong = || PyValueError::new_err("random.state must hold one key: a uint32 array of two");
    let held = state.get_item(0).map_err(|_| wrong())?;
    let held = held.cast::<PyArray>().map_err(|_| wrong())?;
    let now = held.get().array();
    let both = core::split(&now, 2);
    both.check().or_raise()?;
    let next = both.at_index(0, 0);
    // The state must not grow into a graph of all draws; what a trace made has no value yet.
    if lazul_core::eval::is_evaluated(&now) {
        py.detach(|| next.eval()).or_raise()?;
    }
    held.get().set(next);
    Ok(both.at_index(0, 1))
}

/// Sets the state that draws without a key start from.
///
/// >>> mx.random.seed(7)
#[pyfunction]
fn seed(py: Python<'_>, seed: u64) -> PyResult<()> {
    let state = state(py)?;
    let fresh = core::key(seed);
    match state.get_item(0).ok().as_ref().map(|held| held.cast::<PyArray>()) {
        Some(Ok(held)) => held.get().set(fresh),
        _ => state.set_slice(0, state.len(), PyList::new(py, [PyArray::new(fresh)])?.as_any())?,
    }
    core::seed(seed);
    Ok(())
}

/// The key of a seed.
///
/// >>> mx.random.key(0)
/// array([0, 0], dtype=uint32)
#[pyfunction]
fn key(seed: u64) -> PyResult<PyArray> {
    made(core::key(seed))
}

/// Independent keys from one.
///
/// >>> mx.random.split(mx.random.key(0)).shape
/// (2, 2)
#[pyfunction]
#[pyo3(signature = (key, num=Count(2), stream=On(None)))]
fn split(key: Arr, num: Count, stream: On) -> PyResult<PyArray> {
    op(stream, || core::split(&key.0, num.0))
}

fn or_f32(dtype: Option<Dtype>) -> DType {
    dtype.map_or(DType::F32, |d| d.0)
}

fn parameter(value: Value, dtype: DType) -> PyResult<Array> {
    Ok(value.beside(dtype)?.astype(dtype))
}

fn number(v: i128) -> Value {
    Value::Weak(Weak::Int(v))
}

/// Uniform numbers from ``low`` to below ``high``.
///
/// >>> mx.random.uniform(key=mx.random.key(0), shape=(2,))
/// array([0.216295, 0.804124], dtype=float32)
#[pyfunction]
#[pyo3(signature = (low=number(0), high=number(1), shape=Many::default(), dtype=None, key=None, stream=On(None)))]
fn uniform(
    py: Python<'_>,
    low: Value,
    high: Value,
    shape: Many,
    dtype: Option<Dtype>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let dtype = or_f32(dtype);
    let (low, high) = (parameter(low, dtype)?, parameter(high, dtype)?);
    let key = key_or_next(py, key)?;
    op(stream, || core::uniform(&low, &high, shape, dtype, Some(&key)))
}

/// Normal numbers of mean ``loc`` and standard deviation ``scale``.
///
/// >>> mx.random.normal((2,), key=mx.random.key(0))
/// array([-0.784766, 0.856445], dtype=float32)
#[pyfunction]
#[pyo3(signature = (shape=Many::default(), dtype=None, loc=None, scale=None, key=None, stream=On(None)))]
fn normal(
    py: Python<'_>,
    shape: Many,
    dtype: Option<Dtype>,
    loc: Option<Value>,
    scale: Option<Value>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let dtype = or_f32(dtype);
    let loc = loc.map(|v| parameter(v, dtype)).transpose()?;
    let scale = scale.map(|v| parameter(v, dtype)).transpose()?;
    let key = key_or_next(py, key)?;
    op(stream, || match (loc, scale) {
        (None, None) => core::normal(shape, dtype, Some(&key)),
        (loc, scale) => {
            let loc = loc.unwrap_or_else(|| lazul_core::zeros((), dtype));
            let scale = scale.unwrap_or_else(|| lazul_core::ones((), dtype));
            core::normal_with(&loc, &scale, shape, dtype, Some(&key))
        }
    })
}

/// Normal vectors of a mean and a covariance.
///
/// >>> mx.random.multivariate_normal(mx.zeros(2), mx.eye(2), (3,)).shape
/// (3, 2)
#[pyfunction]
#[pyo3(signature = (mean, cov, shape=Many::default(), dtype=None, key=None, stream=On(None)))]
fn multivariate_normal(
    py: Python<'_>,
    mean: Arr,
    cov: Arr,
    shape: Many,
    dtype: Option<Dtype>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let key = key_or_next(py, key)?;
    // Without a shape there are as many vectors as means and covariances have together.
    let shape = if shape.0.is_empty() {
        let (m, c) = (mean.0.shape().or_raise()?, cov.0.shape().or_raise()?);
        let lead = lazul_core::broadcast_shapes(&[
            &m[..m.len().saturating_sub(1)],
            &c[..c.len().saturating_sub(2)],
        ]);
        Many(lead.or_raise()?.into_iter().map(|d| d as i64).collect())
    } else {
        shape
    };
    op(stream, || core::multivariate_normal(&mean.0, &cov.0, shape, or_f32(dtype), Some(&key)))
}

/// Integers from ``low`` to below ``high``.
///
/// >>> mx.random.randint(0, 10, (4,), key=mx.random.key(0))
/// array([9, 2, 6, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (low, high, shape=Many::default(), dtype=None, key=None, stream=On(None)))]
fn randint(
    py: Python<'_>,
    low: Value,
    high: Value,
    shape: Many,
    dtype: Option<Dtype>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let dtype = dtype.map_or(DType::I32, |d| d.0);
    let low = low.beside(dtype)?;
    let high = high.beside(dtype)?;
    let key = key_or_next(py, key)?;
    op(stream, || core::randint(&low, &high, shape, dtype, Some(&key)))
}

/// The shape that parameters have together, unless one is given.
fn shape_of(shape: Option<Many>, parameters: &[&Array]) -> PyResult<Many> {
    if let Some(shape) = shape {
        return Ok(shape);
    }
    let shapes = parameters.iter().map(|p| p.shape()).collect::<Result<Vec<_>, _>>().or_raise()?;
    let together = lazul_core::broadcast_shapes(&shapes).or_raise()?;
    Ok(Many(together.into_iter().map(|d| d as i64).collect()))
}

/// Truth values that are true with probability ``p``.
///
/// >>> mx.random.bernoulli(key=mx.random.key(0), shape=(4,))
/// array([False, True, False, True], dtype=bool)
#[pyfunction]
#[pyo3(signature = (p=Value::Weak(Weak::Float(0.5)), shape=None, key=None, stream=On(None)))]
fn bernoulli(
    py: Python<'_>,
    p: Value,
    shape: Option<Many>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let p = p.beside(DType::F32)?;
    let shape = shape_of(shape, &[&p])?;
    let key = key_or_next(py, key)?;
    op(stream, || core::bernoulli(&p, shape, Some(&key)))
}

/// Normal numbers between ``lower`` and ``upper``.
///
/// >>> mx.random.truncated_normal(-1, 1, (3,)).shape
/// (3,)
#[pyfunction]
#[pyo3(signature = (lower, upper, shape=None, dtype=None, key=None, stream=On(None)))]
fn truncated_normal(
    py: Python<'_>,
    lower: Value,
    upper: Value,
    shape: Option<Many>,
    dtype: Option<Dtype>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let dtype = or_f32(dtype);
    let (lower, upper) = (parameter(lower, dtype)?, parameter(upper, dtype)?);
    let shape = shape_of(shape, &[&lower, &upper])?;
    let key = key_or_next(py, key)?;
    op(stream, || core::truncated_normal(&lower, &upper, shape, dtype, Some(&key)))
}

/// Numbers of the standard Gumbel distribution.
///
/// >>> mx.random.gumbel((3,)).shape
/// (3,)
#[pyfunction]
#[pyo3(signature = (shape=Many::default(), dtype=None, key=None, stream=On(None)))]
fn gumbel(
    py: Python<'_>,
    shape: Many,
    dtype: Option<Dtype>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let key = key_or_next(py, key)?;
    op(stream, || core::gumbel(shape, or_f32(dtype), Some(&key)))
}

/// Numbers of the Laplace distribution.
///
/// >>> mx.random.laplace((3,)).shape
/// (3,)
#[pyfunction]
#[pyo3(signature = (shape=Many::default(), dtype=None, loc=0.0, scale=1.0, key=None, stream=On(None)))]
fn laplace(
    py: Python<'_>,
    shape: Many,
    dtype: Option<Dtype>,
    loc: f64,
    scale: f64,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let key = key_or_next(py, key)?;
    op(stream, || core::laplace_with(loc, scale, shape, or_f32(dtype), Some(&key)))
}

/// Classes drawn by unnormalised log probabilities along an axis, as uint32.
///
/// >>> mx.random.categorical(mx.zeros(4), num_samples=4, key=mx.random.key(0))
/// array([3, 0, 2, 1], dtype=uint32)
#[pyfunction]
#[pyo3(signature = (logits, axis=Int(-1), shape=None, num_samples=None, key=None, stream=On(None)))]
fn categorical(
    py: Python<'_>,
    logits: Arr,
    axis: Int,
    shape: Option<Many>,
    num_samples: Option<Count>,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    if shape.is_some() && num_samples.is_some() {
        return Err(PyValueError::new_err(
            "[categorical] At most one of shape or num_samples can be specified.",
        ));
    }
    let key = key_or_next(py, key)?;
    op(stream, || match shape {
        Some(shape) => core::categorical_shaped(&logits.0, axis.0, shape, Some(&key)),
        None => core::categorical(&logits.0, axis.0, num_samples.map(|n| n.0), Some(&key)),
    })
}

/// The integers below a number in random order, or the slices of an array.
///
/// >>> mx.random.permutation(5, key=mx.random.key(0))
/// array([1, 2, 0, 4, 3], dtype=uint32)
#[pyfunction]
#[pyo3(signature = (x, axis=Int(0), key=None, stream=On(None)))]
fn permutation(
    py: Python<'_>,
    x: Value,
    axis: Int,
    key: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let key = key_or_next(py, key)?;
    match x {
        Value::Array(x) => op(stream, || core::permutation_of(&x, axis.0, Some(&key))),
        Value::Weak(Weak::Int(n)) => {
            let why =
                || PyValueError::new_err(format!("[permutation] {n} integers cannot be ordered"));
            let n = usize::try_from(n).map_err(|_| why())?;
            op(stream, || core::permutation(n, Some(&key)))
        }
        Value::Weak(_) => {
            Err(PyValueError::new_err("[permutation] an integer or an array is expected"))
        }
    }
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(seed, m)?,
        wrap_pyfunction!(key, m)?,
        wrap_pyfunction!(split, m)?,
        wrap_pyfunction!(uniform, m)?,
        wrap_pyfunction!(normal, m)?,
        wrap_pyfunction!(multivariate_normal, m)?,
        wrap_pyfunction!(randint, m)?,
        wrap_pyfunction!(bernoulli, m)?,
        wrap_pyfunction!(truncated_normal, m)?,
        wrap_pyfunction!(gumbel, m)?,
        wrap_pyfunction!(laplace, m)?,
        wrap_pyfunction!(categorical, m)?,
        wrap_pyfunction!(permutation, m)?,
    ] {
        m.add_function(f)?;
    }
    m.add("state", state(m.py())?)
}
