//! Sorting, searching, taking elements, and sets.

use crate::args::{Axes, Count, Int, made, op, two};
use crate::array::PyArray;
use crate::device::On;
use crate::error::OrRaise;
use crate::value::{Arr, Value};
use lazul_core::{Array, Interpolation, Side};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// The array along an axis, or flat.
fn along(a: Array, axis: Option<Int>) -> (Array, i64) {
    match axis {
        Some(axis) => (a, axis.0),
        None => (a.flatten(0, -1), 0),
    }
}

macro_rules! sorts {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, /, axis=Some(Int(-1)), *, stream=On(None)))]
            fn $name(a: Arr, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
                let (a, axis) = along(a.0, axis);
                op(stream, || a.$name(axis))
            }
        )*
    };
}

sorts! {
    sort "The elements in ascending order along an axis, NaN last." ">>> mx.sort(mx.array([3, 1, 2]))\narray([1, 2, 3], dtype=int32)";
    argsort "The positions of the elements in ascending order, as uint32; equal ones stay in order." ">>> mx.argsort(mx.array([3, 1, 2]))\narray([1, 2, 0], dtype=uint32)";
}

macro_rules! partitions {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, /, kth, axis=Some(Int(-1)), *, stream=On(None)))]
            fn $name(a: Arr, kth: Int, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
                let (a, axis) = along(a.0, axis);
                op(stream, || a.$name(kth.0, axis))
            }
        )*
    };
}

partitions! {
    partition "The elements so that the ``kth`` is where it would be sorted, with none greater before it." ">>> mx.partition(mx.array([3, 1, 2]), 0)[0].item()\n1";
    argpartition "The positions of :func:`partition`'s elements, as uint32." ">>> mx.argpartition(mx.array([3, 1, 2]), 0)[0].item()\n1";
}

/// The ``k`` greatest elements along an axis.
///
/// >>> mx.topk(mx.array([3, 1, 2]), 2)
/// array([2, 3], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, k, axis=Some(Int(-1)), *, stream=On(None)))]
fn topk(a: Arr, k: Count, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
    let (a, axis) = along(a.0, axis);
    op(stream, || a.topk(k.0, axis))
}

/// Where values would go in a sorted sequence, as uint32.
///
/// >>> mx.searchsorted(mx.array([1, 3, 5]), mx.array([3]))
/// array([1], dtype=uint32)
#[pyfunction]
#[pyo3(signature = (sorted_sequence, values, /, side="left", *, sorter=None, stream=On(None)))]
fn searchsorted(
    sorted_sequence: Arr,
    values: Value,
    side: &str,
    sorter: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let side = match side {
        "left" => Side::Left,
        "right" => Side::Right,
        other => {
            let why = format!("[searchsorted] side is 'left' or 'right', not '{other}'");
            return Err(PyValueError::new_err(why));
        }
    };
    let values = values.beside(sorted_sequence.0.dtype().or_raise()?)?;
    op(stream, || match &sorter {
        Some(order) => sorted_sequence.0.take(&order.0, 0).searchsorted(&values, side),
        None => sorted_sequence.0.searchsorted(&values, side),
    })
}

/// The different elements of an array in ascending order.
///
/// With ``size`` there are that many, the rest being ``fill_value`` (the least element by default), and nothing is
/// evaluated. Without it there are as many as there are, which evaluates the array.
///
/// >>> mx.unique(mx.array([2, 1, 2]))
/// array([1, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, size=None, return_index=false, return_inverse=false, return_counts=false, fill_value=None, *, stream=On(None)))]
fn unique<'py>(
    py: Python<'py>,
    a: Arr,
    size: Option<Count>,
    return_index: bool,
    return_inverse: bool,
    return_counts: bool,
    fill_value: Option<Value>,
    stream: On,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = a.0.dtype().or_raise()?;
    let fill = fill_value.map(|f| f.beside(dtype)).transpose()?.map(|f| f.astype(dtype));
    let found = match size {
        Some(size) => stream.run(|| a.0.unique_sized(size.0, fill.as_ref()))?,
        None => stream.run(|| py.detach(|| a.0.unique()))?.or_raise()?,
    };
    let values = made(found.values)?;
    if !(return_index || return_inverse || return_counts) {
        return Ok(Bound::new(py, values)?.into_any());
    }
    let mut all = vec![values];
    for (wanted, array) in [
        (return_index, found.index),
        (return_inverse, found.inverse),
        (return_counts, found.counts),
    ] {
        if wanted {
            all.push(made(array)?);
        }
    }
    Ok(PyTuple::new(py, all)?.into_any())
}

/// Elements at indices, of an axis or of the flat array.
///
/// >>> mx.take(mx.array([1, 2, 3]), mx.array([2, 0]))
/// array([3, 1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, indices, axis=None, *, stream=On(None)))]
fn take(a: Arr, indices: Arr, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
    op(stream, || match axis {
        Some(axis) => a.0.take(&indices.0, axis.0),
        None => a.0.take_flat(&indices.0),
    })
}

/// For every element of ``indices`` the element of the array at that position of an axis.
///
/// >>> mx.take_along_axis(mx.array([[1, 2], [3, 4]]), mx.array([[1], [0]]), axis=1)
/// array([[2],
///        [3]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, indices, axis=Some(Int(-1)), *, stream=On(None)))]
fn take_along_axis(a: Arr, indices: Arr, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
    op(stream, || match axis {
        Some(axis) => a.0.take_along_axis(&indices.0, axis.0),
        None => a.0.flatten(0, -1).take_along_axis(&indices.0.flatten(0, -1), 0),
    })
}

/// The array with values at the positions that ``indices`` names of an axis.
///
/// >>> mx.put_along_axis(mx.zeros((1, 3)), mx.array([[1]]), mx.array([[7.0]]), axis=1)
/// array([[0, 7, 0]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, indices, values, axis=None, *, stream=On(None)))]
fn put_along_axis(
    a: Arr,
    indices: Arr,
    values: Value,
    axis: Option<Int>,
    stream: On,
) -> PyResult<PyArray> {
    let values = values.beside(a.0.dtype().or_raise()?)?;
    op(stream, || match axis {
        Some(axis) => a.0.put_along_axis(&indices.0, &values, axis.0),
        None => {
            let flat = a.0.flatten(0, -1).put_along_axis(
                &indices.0.flatten(0, -1),
                values.flatten(0, -1),
                0,
            );
            a.0.shape().map_or_else(|_| flat.clone(), |shape| flat.reshape(shape))
        }
    })
}

/// The indices of the elements that are not zero: one array for each axis.
pub(crate) fn indices<'py>(py: Python<'py>, a: &Array) -> PyResult<Bound<'py, PyAny>> {
    let found = py.detach(|| a.nonzero()).or_raise()?;
    let found = found.into_iter().map(made).collect::<PyResult<Vec<_>>>()?;
    Ok(PyTuple::new(py, found)?.into_any())
}

/// The indices of the elements that are not zero: one array for each axis. Evaluates the array.
///
/// >>> mx.nonzero(mx.array([0, 3, 5]))
/// (array([1, 2], dtype=uint32),)
#[pyfunction]
#[pyo3(signature = (a, /))]
fn nonzero<'py>(py: Python<'py>, a: Arr) -> PyResult<Bound<'py, PyAny>> {
    indices(py, &a.0)
}

/// The indices of the elements that are not zero, a row each. Evaluates the array.
///
/// >>> mx.argwhere(mx.array([0, 3]))
/// array([[1]], dtype=uint32)
#[pyfunction]
#[pyo3(signature = (a, /))]
fn argwhere(py: Python<'_>, a: Arr) -> PyResult<PyArray> {
    made(py.detach(|| a.0.argwhere()))
}

/// Whether elements are among others.
///
/// >>> mx.isin(mx.array([1, 2]), mx.array([2]))
/// array([False, True], dtype=bool)
#[pyfunction]
#[pyo3(signature = (a, test_elements, /, *, stream=On(None)))]
fn isin(a: Arr, test_elements: Arr, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.isin(&test_elements.0))
}

fn interpolation(method: &str) -> PyResult<Interpolation> {
    Ok(match method {
        "linear" => Interpolation::Linear,
        "lower" => Interpolation::Lower,
        "higher" => Interpolation::Higher,
        "midpoint" => Interpolation::Midpoint,
        "nearest" => Interpolation::Nearest,
        other => {
            let why =
                format!("the method '{other}' is none of linear, lower, higher, midpoint, nearest");
            return Err(PyValueError::new_err(why));
        }
    })
}

/// Values below which the fractions ``q`` of the elements over axes lie.
///
/// >>> mx.quantile(mx.array([1.0, 2.0, 3.0]), 0.5)
/// array(2, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, q, /, axis=Axes(None), keepdims=false, *, method="linear", stream=On(None)))]
fn quantile(
    a: Arr,
    q: Arr,
    axis: Axes,
    keepdims: bool,
    method: &str,
    stream: On,
) -> PyResult<PyArray> {
    let how = interpolation(method)?;
    op(stream, || match keepdims {
        true => a.0.quantile_keepdims(&q.0, axis, how),
        false => a.0.quantile(&q.0, axis, how),
    })
}

/// Values below which ``q`` per cent of the elements over axes lie.
///
/// >>> mx.percentile(mx.array([1.0, 2.0, 3.0]), 50)
/// array(2, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, q, /, axis=Axes(None), keepdims=false, *, method="linear", stream=On(None)))]
fn percentile(
    a: Arr,
    q: Arr,
    axis: Axes,
    keepdims: bool,
    method: &str,
    stream: On,
) -> PyResult<PyArray> {
    let how = interpolation(method)?;
    op(stream, || match keepdims {
        true => a.0.percentile_keepdims(&q.0, axis, how),
        false => a.0.percentile(&q.0, axis, how),
    })
}

/// How many elements lie between edges, and the edges.
///
/// >>> mx.histogram(mx.array([1.0, 2.0, 1.0]), bins=2)[0].tolist()
/// [2, 1]
#[pyfunction]
#[pyo3(signature = (a, /, bins=None, range=None, *, weights=None, stream=On(None)))]
fn histogram(
    a: Arr,
    bins: Option<&Bound<'_, PyAny>>,
    range: Option<(f64, f64)>,
    weights: Option<Arr>,
    stream: On,
) -> PyResult<(PyArray, PyArray)> {
    let count = match bins {
        None => Some(10),
        Some(bins) => bins.extract::<Count>().ok().map(|c| c.0),
    };
    match (count, bins) {
        (Some(count), _) if weights.is_none() => two(stream, || a.0.histogram_bins(count, range)),
        (Some(count), _) => two(stream, || {
            let edges = a.0.histogram_bins(count, range).1;
            (a.0.histogram(&edges, weights.as_ref().map(|w| &w.0)), edges)
        }),
        (None, Some(edges)) => {
            let edges = crate::value::array_of(edges, None)?;
            two(stream, || (a.0.histogram(&edges, weights.as_ref().map(|w| &w.0)), edges.clone()))
        }
        (None, None) => Err(PyValueError::new_err("histogram: bins are missing")),
    }
}

/// How often each integer from 0 on occurs.
///
/// >>> mx.bincount(mx.array([0, 2, 2])).tolist()
/// [1, 0, 2]
#[pyfunction]
#[pyo3(signature = (x, /, weights=None, minlength=Count(0), *, stream=On(None)))]
fn bincount(
    py: Python<'_>,
    x: Arr,
    weights: Option<Arr>,
    minlength: Count,
    stream: On,
) -> PyResult<PyArray> {
    let weights = weights.map(|w| w.0);
    made(stream.run(|| py.detach(|| x.0.bincount(weights.as_ref(), minlength.0)))?)
}

/// Piecewise linear interpolation of the points ``(xp, fp)``.
///
/// >>> mx.interp(mx.array([0.5]), mx.array([0.0, 1.0]), mx.array([0.0, 10.0]))
/// array([5], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, xp, fp, /, *, stream=On(None)))]
fn interp(x: Arr, xp: Arr, fp: Arr, stream: On) -> PyResult<PyArray> {
    op(stream, || x.0.interp(&xp.0, &fp.0))
}

/// The covariance matrix of variables, a row each.
///
/// >>> mx.cov(mx.array([[1.0, 2.0], [2.0, 4.0]])).tolist()
/// [[0.5, 1.0], [1.0, 2.0]]
#[pyfunction]
#[pyo3(signature = (m, /, *, ddof=Count(1), stream=On(None)))]
fn cov(m: Arr, ddof: Count, stream: On) -> PyResult<PyArray> {
    op(stream, || m.0.cov(ddof.0))
}

/// Quarter turns in the plane of two axes.
///
/// >>> mx.rot90(mx.array([[1, 2], [3, 4]]))
/// array([[2, 4],
///        [1, 3]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (m, /, k=Int(1), axes=(Int(0), Int(1)), *, stream=On(None)))]
fn rot90(m: Arr, k: Int, axes: (Int, Int), stream: On) -> PyResult<PyArray> {
    op(stream, || m.0.rot90(k.0, [axes.0.0, axes.1.0]))
}

pub(crate) fn add_to(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(sort, m)?,
        wrap_pyfunction!(argsort, m)?,
        wrap_pyfunction!(partition, m)?,
        wrap_pyfunction!(argpartition, m)?,
        wrap_pyfunction!(topk, m)?,
        wrap_pyfunction!(searchsorted, m)?,
        wrap_pyfunction!(unique, m)?,
        wrap_pyfunction!(take, m)?,
        wrap_pyfunction!(take_along_axis, m)?,
        wrap_pyfunction!(put_along_axis, m)?,
        wrap_pyfunction!(nonzero, m)?,
        wrap_pyfunction!(argwhere, m)?,
        wrap_pyfunction!(isin, m)?,
        wrap_pyfunction!(quantile, m)?,
        wrap_pyfunction!(percentile, m)?,
        wrap_pyfunction!(histogram, m)?,
        wrap_pyfunction!(bincount, m)?,
        wrap_pyfunction!(interp, m)?,
        wrap_pyfunction!(cov, m)?,
        wrap_pyfunction!(rot90, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}
