//! Shapes and layouts: views, joins and splits.

use crate::args::{Axes, Count, Int, Many, many, op};
use crate::array::PyArray;
use crate::device::On;
use crate::error::OrRaise;
use crate::value::{Arr, Arrays, Value};
use lazul_core::{Array, DType, Pad};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// The elements in row-major order, with other lengths of dimensions; one may be -1.
///
/// >>> mx.reshape(mx.arange(4), (2, -1))
/// array([[0, 1],
///        [2, 3]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, shape, *, copy=None, stream=On(None)))]
fn reshape(a: Arr, shape: Many, copy: Option<bool>, stream: On) -> PyResult<PyArray> {
    let _ = copy;
    op(stream, || a.0.reshape(shape))
}

/// A range of axes made one.
///
/// >>> mx.flatten(mx.zeros((2, 3))).shape
/// (6,)
#[pyfunction]
#[pyo3(signature = (a, /, start_axis=Int(0), end_axis=Int(-1), *, stream=On(None)))]
fn flatten(a: Arr, start_axis: Int, end_axis: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.flatten(start_axis.0, end_axis.0))
}

/// One axis made several; one length may be -1.
///
/// >>> mx.unflatten(mx.zeros((2, 6)), 1, (2, 3)).shape
/// (2, 2, 3)
#[pyfunction]
#[pyo3(signature = (a, /, axis, shape, *, stream=On(None)))]
fn unflatten(a: Arr, axis: Int, shape: Many, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.unflatten(axis.0, shape))
}

/// Axes of length one taken away; all of them by default.
fn squeezed(a: &Array, axis: Axes) -> Array {
    match (axis.0, a.shape()) {
        (Some(axes), _) => a.squeeze(axes),
        (None, Ok(shape)) => {
            let ones: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] == 1).collect();
            a.squeeze(ones)
        }
        (None, Err(_)) => a.clone(),
    }
}

/// Axes of length one taken away; all of them by default.
///
/// >>> mx.squeeze(mx.zeros((1, 2, 1))).shape
/// (2,)
#[pyfunction]
#[pyo3(signature = (a, /, axis=Axes(None), *, stream=On(None)))]
fn squeeze(a: Arr, axis: Axes, stream: On) -> PyResult<PyArray> {
    op(stream, || squeezed(&a.0, axis))
}

/// New axes of length one.
///
/// >>> mx.expand_dims(mx.zeros(2), 0).shape
/// (1, 2)
#[pyfunction]
#[pyo3(signature = (a, /, axis=Many::from(0), *, stream=On(None)))]
fn expand_dims(a: Arr, axis: Many, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.expand_dims(axis))
}

/// The elements backwards along axes; along all by default.
///
/// >>> mx.flip(mx.array([1, 2]))
/// array([2, 1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, axis=Axes(None), *, stream=On(None)))]
fn flip(a: Arr, axis: Axes, stream: On) -> PyResult<PyArray> {
    op(stream, || match axis.0 {
        Some(axes) => a.0.flip(axes),
        None => a.0.flip(0..a.0.ndim().unwrap_or(0)),
    })
}

/// The slices along an axis.
///
/// >>> mx.unstack(mx.array([[1, 2], [3, 4]]))
/// (array([1, 2], dtype=int32), array([3, 4], dtype=int32))
#[pyfunction]
#[pyo3(signature = (x, /, *, axis=Int(0), stream=On(None)))]
fn unstack<'py>(py: Python<'py>, x: Arr, axis: Int, stream: On) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, many(stream, || x.0.unstack(axis.0))?)
}

/// An axis moved to another place.
///
/// >>> mx.moveaxis(mx.zeros((1, 2, 3)), 0, 2).shape
/// (2, 3, 1)
#[pyfunction]
#[pyo3(signature = (a, /, source, destination, *, stream=On(None)))]
fn moveaxis(a: Arr, source: Many, destination: Many, stream: On) -> PyResult<PyArray> {
    if let ([from], [to]) = (&source.0[..], &destination.0[..]) {
        return op(stream, || a.0.moveaxis(*from, *to));
    }
    let rank = a.0.ndim().or_raise()? as i64;
    if source.0.len() != destination.0.len() {
        return Err(PyValueError::new_err("moveaxis: as many destinations as sources are needed"));
    }
    let settle = |axes: &Many| -> PyResult<Vec<i64>> {
        let one = |&i: &i64| {
            let at = if i < 0 { i + rank } else { i };
            let why = || PyValueError::new_err(format!("moveaxis: axis {i} is out of range"));
            (0..rank).contains(&at).then_some(at).ok_or_else(why)
        };
        axes.0.iter().map(one).collect()
    };
    let (from, to) = (settle(&source)?, settle(&destination)?);
    let mut order: Vec<i64> = (0..rank).filter(|i| !from.contains(i)).collect();
    let mut pairs: Vec<(i64, i64)> = to.into_iter().zip(from).collect();
    pairs.sort_unstable();
    for (to, from) in pairs {
        order.insert((to as usize).min(order.len()), from);
    }
    op(stream, || a.0.transpose(order))
}

/// Two axes swapped.
///
/// >>> mx.swapaxes(mx.zeros((1, 2, 3)), 0, 2).shape
/// (3, 2, 1)
#[pyfunction]
#[pyo3(signature = (a, /, axis1, axis2, *, stream=On(None)))]
fn swapaxes(a: Arr, axis1: Int, axis2: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.swapaxes(axis1.0, axis2.0))
}

/// The axes in another order; reversed by default.
///
/// >>> mx.transpose(mx.zeros((1, 2, 3))).shape
/// (3, 2, 1)
#[pyfunction]
#[pyo3(signature = (a, /, axes=Axes(None), *, stream=On(None)))]
fn transpose(a: Arr, axes: Axes, stream: On) -> PyResult<PyArray> {
    op(stream, || match axes.0 {
        Some(axes) => a.0.transpose(axes),
        None => a.0.t(),
    })
}

/// The last two axes swapped.
///
/// >>> mx.matrix_transpose(mx.zeros((1, 2, 3))).shape
/// (1, 3, 2)
#[pyfunction]
#[pyo3(signature = (a, /, *, stream=On(None)))]
fn matrix_transpose(a: Arr, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.mt())
}

/// The array repeated to a larger shape, without copies.
///
/// >>> mx.broadcast_to(mx.array([1, 2]), (2, 2))
/// array([[1, 2],
///        [1, 2]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, shape, *, stream=On(None)))]
fn broadcast_to(a: Arr, shape: Many, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.broadcast_to(shape))
}

/// Arrays repeated to the shape that they have together.
///
/// >>> [x.shape for x in mx.broadcast_arrays(mx.zeros((2, 1)), mx.zeros(3))]
/// [(2, 3), (2, 3)]
#[pyfunction]
#[pyo3(signature = (*arrays, stream=On(None)))]
fn broadcast_arrays<'py>(
    py: Python<'py>,
    arrays: Vec<Arr>,
    stream: On,
) -> PyResult<Bound<'py, PyTuple>> {
    let all: Vec<Array> = arrays.into_iter().map(|a| a.0).collect();
    PyTuple::new(py, many(stream, || lazul_core::broadcast_arrays(&all))?)
}

/// The shape that shapes have together.
///
/// >>> mx.broadcast_shapes((2, 1), (3,))
/// (2, 3)
#[pyfunction]
#[pyo3(signature = (*shapes))]
fn broadcast_shapes<'py>(py: Python<'py>, shapes: Vec<Many>) -> PyResult<Bound<'py, PyTuple>> {
    let all = shapes.iter().map(Many::counts).collect::<PyResult<Vec<_>>>()?;
    let all: Vec<&[usize]> = all.iter().map(Vec::as_slice).collect();
    if all.is_empty() {
        return Err(PyValueError::new_err("[broadcast_shapes] Must provide at least one shape."));
    }
    PyTuple::new(py, lazul_core::broadcast_shapes(&all).or_raise()?)
}

/// Arrays joined along an axis; flat ones for ``None``.
///
/// >>> mx.concatenate([mx.array([1]), mx.array([2])])
/// array([1, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (arrays, axis=Some(Int(0)), *, stream=On(None)))]
fn concatenate(arrays: Arrays, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
    op(stream, || match axis {
        Some(axis) => lazul_core::concatenate(&arrays.0, axis.0),
        None => {
            let flat: Vec<Array> = arrays.0.iter().map(|a| a.flatten(0, -1)).collect();
            lazul_core::concatenate(&flat, 0)
        }
    })
}

/// Arrays of one shape joined along a new axis; flat ones for ``None``.
///
/// >>> mx.stack([mx.array([1]), mx.array([2])])
/// array([[1],
///        [2]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (arrays, axis=Some(Int(0)), *, stream=On(None)))]
fn stack(arrays: Arrays, axis: Option<Int>, stream: On) -> PyResult<PyArray> {
    op(stream, || match axis {
        Some(axis) => lazul_core::stack(&arrays.0, axis.0),
        None => {
            let flat: Vec<Array> = arrays.0.iter().map(|a| a.flatten(0, -1)).collect();
            lazul_core::stack(&flat, 0)
        }
    })
}

fn split_of(
    a: &Array,
    indices_or_sections: &Bound<'_, PyAny>,
    axis: Int,
    stream: On,
) -> PyResult<Vec<PyArray>> {
    if let Ok(parts) = indices_or_sections.extract::<Int>() {
        let parts = usize::try_from(parts.0)
            .ok()
            .filter(|&p| p > 0)
            .ok_or_else(|| PyValueError::new_err("[split] the number of parts must be positive"))?;
        return many(stream, || a.split(parts, axis.0));
    }
    let n = a.dim(axis.0).or_raise()?;
    let cut = |i: i64| (if i < 0 { (i + n as i64).max(0) } else { i }) as usize;
    let cuts: Vec<usize> =
        indices_or_sections.extract::<Many>()?.0.iter().map(|&i| cut(i).min(n)).collect();
    many(stream, || a.split_at(&cuts, axis.0))
}

/// An axis cut into equal parts, or at indices.
///
/// >>> mx.split(mx.arange(4), 2)
/// [array([0, 1], dtype=int32), array([2, 3], dtype=int32)]
#[pyfunction]
#[pyo3(signature = (a, /, indices_or_sections, axis=Int(0), *, stream=On(None)))]
fn split(
    a: Arr,
    indices_or_sections: &Bound<'_, PyAny>,
    axis: Int,
    stream: On,
) -> PyResult<Vec<PyArray>> {
    split_of(&a.0, indices_or_sections, axis, stream)
}

/// Every element so many times, along an axis or in the flat array.
///
/// >>> mx.repeat(mx.array([1, 2]), 2)
/// array([1, 1, 2, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (array, repeats, axis=None, *, stream=On(None)))]
fn repeat(
    py: Python<'_>,
    array: Arr,
    repeats: &Bound<'_, PyAny>,
    axis: Option<Int>,
    stream: On,
) -> PyResult<PyArray> {
    let (array, axis) = match axis {
        Some(axis) => (array.0, axis.0),
        None => (array.0.flatten(0, -1), 0),
    };
    if let Ok(n) = repeats.extract::<Count>() {
        return op(stream, || array.repeat(n.0, axis));
    }
    // A number for each slice.
    let counts = repeats.extract::<Arr>()?.0.astype(DType::I64);
    let counts = py.detach(|| counts.to_vec::<i64>()).or_raise()?;
    let n = array.dim(axis).or_raise()?;
    let counts = if counts.len() == 1 { vec![counts[0]; n] } else { counts };
    if counts.len() != n || counts.iter().any(|&c| c < 0) {
        return Err(PyValueError::new_err(
            "[repeat] one count that is not negative for each slice is needed",
        ));
    }
    let too_many = || PyValueError::new_err("[repeat] the result has too many elements");
    let total = counts.iter().try_fold(0i64, |sum, &c| sum.checked_add(c)).ok_or_else(too_many)?;
    let mut at: Vec<i64> = Vec::new();
    at.try_reserve_exact(usize::try_from(total).map_err(|_| too_many())?)
        .map_err(|_| too_many())?;
    for (i, &c) in counts.iter().enumerate() {
        at.extend(std::iter::repeat_n(i as i64, c as usize));
    }
    let at = Array::from_slice(&at, [at.len()]);
    op(stream, || array.take(&at, axis))
}

/// The array so many times along each axis.
///
/// >>> mx.tile(mx.array([1, 2]), 2)
/// array([1, 2, 1, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, reps, /, *, stream=On(None)))]
fn tile(a: Arr, reps: Many, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.tile(reps))
}

/// The elements moved around along axes, or in the flat array.
///
/// >>> mx.roll(mx.array([1, 2, 3]), 1)
/// array([3, 1, 2], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, shift, axis=Axes(None), /, *, stream=On(None)))]
fn roll(a: Arr, shift: Many, axis: Axes, stream: On) -> PyResult<PyArray> {
    op(stream, || match axis.0 {
        // One shift goes for every axis.
        Some(axes) if shift.0.len() == 1 => a.0.roll(vec![shift.0[0]; axes.0.len()], axes),
        Some(axes) if axes.0.len() == 1 => a.0.roll(vec![shift.0.iter().sum::<i64>()], axes),
        Some(axes) => a.0.roll(shift, axes),
        None => {
            let total: i64 = shift.0.iter().sum();
            let flat = a.0.flatten(0, -1).roll(total, 0);
            a.0.shape().map_or_else(|_| a.0.clone(), |shape| flat.reshape(shape))
        }
    })
}

/// How far every axis is padded, as numpy reads it.
fn widths(pad: &Bound<'_, PyAny>, rank: usize) -> PyResult<Vec<(usize, usize)>> {
    let wrong = || {
        PyValueError::new_err("[pad] a width, a pair of them, or a pair for each axis is needed")
    };
    if let Ok(n) = pad.extract::<Count>() {
        return Ok(vec![(n.0, n.0); rank]);
    }
    if let Ok(one) = pad.extract::<Many>() {
        return match one.counts()?[..] {
            [n] => Ok(vec![(n, n); rank]),
            [a, b] => Ok(vec![(a, b); rank]),
            _ => Err(wrong()),
        };
    }
    let mut all = Vec::new();
    for item in pad.try_iter().map_err(|_| wrong())? {
        match item?.extract::<Many>().map_err(|_| wrong())?.counts()?[..] {
            [n] => all.push((n, n)),
            [a, b] => all.push((a, b)),
            _ => return Err(wrong()),
        }
    }
    match all[..] {
        [one] => Ok(vec![one; rank]),
        _ if all.len() == rank => Ok(all),
        _ => Err(wrong()),
    }
}

/// Elements added around the array: a constant, the edge, or the array mirrored.
///
/// >>> mx.pad(mx.array([1, 2]), (1, 2))
/// array([0, 1, 2, 0, 0], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, pad_width, mode="constant", constant_values=Value::Weak(lazul_core::operand::Weak::Int(0)), *, stream=On(None)))]
fn pad(
    py: Python<'_>,
    a: Arr,
    pad_width: &Bound<'_, PyAny>,
    mode: &str,
    constant_values: Value,
    stream: On,
) -> PyResult<PyArray> {
    let widths = widths(pad_width, a.0.ndim().or_raise()?)?;
    let kind = match mode {
        "constant" => Pad::Constant(0.0),
        "edge" => Pad::Edge,
        "reflect" => Pad::Reflect,
        "symmetric" => Pad::Symmetric,
        _ => {
            let why =
                format!("[pad] the mode '{mode}' is none of constant, edge, reflect, symmetric");
            return Err(PyValueError::new_err(why));
        }
    };
    let dtype = a.0.dtype().or_raise()?;
    let value = match constant_values {
        Value::Weak(lazul_core::operand::Weak::Int(0)) => None,
        value => Some(value.beside(dtype)?.astype(dtype)),
    };
    let _ = py;
    match (value, kind) {
        (Some(value), Pad::Constant(_)) => {
            // The frame is the value; the array is written into it.
            let shape: Vec<usize> =
                a.0.shape().or_raise()?.iter().zip(&widths).map(|(d, (l, r))| d + l + r).collect();
            let starts: Vec<i64> = widths.iter().map(|w| w.0 as i64).collect();
            op(stream, || value.broadcast_to(shape).slice_update(&a.0, starts))
        }
        (_, kind) => op(stream, || a.0.pad(&widths, kind)),
    }
}

/// A view of other lengths and strides, counted in elements, from an offset on.
///
/// >>> mx.as_strided(mx.arange(4), (2, 2), (1, 2))
/// array([[0, 2],
///        [1, 3]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, shape=None, strides=None, offset=Count(0), *, stream=On(None)))]
fn as_strided(
    a: Arr,
    shape: Option<Many>,
    strides: Option<Many>,
    offset: Count,
    stream: On,
) -> PyResult<PyArray> {
    let shape = match shape {
        Some(shape) => shape.counts()?,
        None => a.0.shape().or_raise()?.to_vec(),
    };
    let strides = match strides {
        Some(strides) => strides.0.to_vec(),
        None => {
            let mut all = vec![1i64; shape.len()];
            for i in (1..shape.len()).rev() {
                all[i - 1] = all[i].saturating_mul(i64::try_from(shape[i]).unwrap_or(i64::MAX));
            }
            all
        }
    };
    op(stream, || a.0.as_strided(shape, strides, offset.0))
}

/// The elements in row-major order in memory.
///
/// >>> mx.contiguous(mx.arange(2))
/// array([0, 1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, allow_col_major=false, *, stream=On(None)))]
fn contiguous(a: Arr, allow_col_major: bool, stream: On) -> PyResult<PyArray> {
    let _ = allow_col_major;
    op(stream, || a.0.contiguous())
}

fn at_least<'py>(
    py: Python<'py>,
    arrays: Vec<Arr>,
    stream: On,
    f: impl Fn(&Array) -> Array,
) -> PyResult<Bound<'py, PyAny>> {
    let all = arrays.iter().map(|a| op(stream, || f(&a.0))).collect::<PyResult<Vec<_>>>()?;
    let mut all: Vec<PyArray> = all;
    match all.len() {
        1 => all.remove(0).into_bound_py_any(py),
        _ => Ok(PyList::new(py, all)?.into_any()),
    }
}

/// Arrays with at least one axis.
///
/// >>> mx.atleast_1d(mx.array(3)).shape
/// (1,)
#[pyfunction]
#[pyo3(signature = (*arys, stream=On(None)))]
fn atleast_1d<'py>(py: Python<'py>, arys: Vec<Arr>, stream: On) -> PyResult<Bound<'py, PyAny>> {
    at_least(py, arys, stream, Array::atleast_1d)
}

/// Arrays with at least two axes.
///
/// >>> mx.atleast_2d(mx.array(3)).shape
/// (1, 1)
#[pyfunction]
#[pyo3(signature = (*arys, stream=On(None)))]
fn atleast_2d<'py>(py: Python<'py>, arys: Vec<Arr>, stream: On) -> PyResult<Bound<'py, PyAny>> {
    at_least(py, arys, stream, Array::atleast_2d)
}

/// Arrays with at least three axes.
///
/// >>> mx.atleast_3d(mx.array(3)).shape
/// (1, 1, 1)
#[pyfunction]
#[pyo3(signature = (*arys, stream=On(None)))]
fn atleast_3d<'py>(py: Python<'py>, arys: Vec<Arr>, stream: On) -> PyResult<Bound<'py, PyAny>> {
    at_least(py, arys, stream, Array::atleast_3d)
}

/// A diagonal of two axes, as the last axis.
///
/// >>> mx.diagonal(mx.eye(2))
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, offset=Int(0), axis1=Int(0), axis2=Int(1), stream=On(None)))]
fn diagonal(a: Arr, offset: Int, axis1: Int, axis2: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.diagonal_of(offset.0, axis1.0, axis2.0))
}

/// A matrix with a vector for its diagonal, or the diagonal of a matrix.
///
/// >>> mx.diag(mx.array([1, 2]))
/// array([[1, 0],
///        [0, 2]], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, k=Int(0), *, stream=On(None)))]
fn diag(a: Arr, k: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.diag(k.0))
}

/// The part of an array from starts that are computed, along some axes.
///
/// >>> mx.slice(mx.arange(5), mx.array([2]), (0,), (2,))
/// array([2, 3], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, start_indices, axes, slice_size, *, stream=On(None)))]
fn slice(
    a: Arr,
    start_indices: Arr,
    axes: Many,
    slice_size: Many,
    stream: On,
) -> PyResult<PyArray> {
    let sizes = slice_size.counts()?;
    let shape = a.0.shape().or_raise()?;
    // MLX gives a size for every axis; those without a start begin at 0.
    if sizes.len() == shape.len() && sizes.len() != axes.0.len() {
        let rank = shape.len() as i64;
        let named: Vec<i64> = axes.0.iter().map(|&i| if i < 0 { i + rank } else { i }).collect();
        let own: Vec<usize> =
            named.iter().map(|&i| sizes.get(i as usize).copied().unwrap_or(0)).collect();
        return op(stream, || {
            let mut part = a.0.dynamic_slice(&start_indices.0, &axes.0, &own);
            for i in (0..rank).filter(|i| !named.contains(i)) {
                part = part.slice_axis(i, 0, sizes[i as usize] as i64);
            }
            part
        });
    }
    op(stream, || {
        // Sizes stand in the order of the array's axes.
        a.0.dynamic_slice(&start_indices.0, &axes.0, &sizes)
    })
}

/// The array with a part, from starts that are computed, replaced.
///
/// >>> mx.slice_update(mx.zeros(3), mx.ones(1), mx.array([1]), (0,))
/// array([0, 1, 0], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, update, start_indices, axes, *, stream=On(None)))]
fn slice_update(
    a: Arr,
    update: Arr,
    start_indices: Arr,
    axes: Many,
    stream: On,
) -> PyResult<PyArray> {
    let dtype = a.0.dtype().or_raise()?;
    op(stream, || a.0.dynamic_slice_update(&update.0.astype(dtype), &start_indices.0, &axes.0))
}

#[pymethods]
impl PyArray {
    /// See :func:`lazul.core.squeeze`.
    #[pyo3(signature = (axis=Axes(None), *, stream=On(None)))]
    fn squeeze(&self, axis: Axes, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || squeezed(&a, axis))
    }

    /// See :func:`lazul.core.moveaxis`.
    #[pyo3(signature = (source, destination, *, stream=On(None)))]
    fn moveaxis(&self, source: Many, destination: Many, stream: On) -> PyResult<PyArray> {
        self::moveaxis(Arr(self.array()), source, destination, stream)
    }

    /// See :func:`lazul.core.swapaxes`.
    #[pyo3(signature = (axis1, axis2, *, stream=On(None)))]
    fn swapaxes(&self, axis1: Int, axis2: Int, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || a.swapaxes(axis1.0, axis2.0))
    }

    /// See :func:`lazul.core.split`.
    #[pyo3(signature = (indices_or_sections, axis=Int(0), *, stream=On(None)))]
    fn split(
        &self,
        indices_or_sections: &Bound<'_, PyAny>,
        axis: Int,
        stream: On,
    ) -> PyResult<Vec<PyArray>> {
        split_of(&self.array(), indices_or_sections, axis, stream)
    }

    /// See :func:`lazul.core.diagonal`.
    #[pyo3(signature = (offset=Int(0), axis1=Int(0), axis2=Int(1), stream=On(None)))]
    fn diagonal(&self, offset: Int, axis1: Int, axis2: Int, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || a.diagonal_of(offset.0, axis1.0, axis2.0))
    }

    /// See :func:`lazul.core.diag`.
    #[pyo3(signature = (k=Int(0), *, stream=On(None)))]
    fn diag(&self, k: Int, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || a.diag(k.0))
    }
}

pub(crate) fn add_to(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(reshape, m)?,
        wrap_pyfunction!(flatten, m)?,
        wrap_pyfunction!(unflatten, m)?,
        wrap_pyfunction!(squeeze, m)?,
        wrap_pyfunction!(expand_dims, m)?,
        wrap_pyfunction!(flip, m)?,
        wrap_pyfunction!(unstack, m)?,
        wrap_pyfunction!(moveaxis, m)?,
        wrap_pyfunction!(swapaxes, m)?,
        wrap_pyfunction!(transpose, m)?,
        wrap_pyfunction!(matrix_transpose, m)?,
        wrap_pyfunction!(broadcast_to, m)?,
        wrap_pyfunction!(broadcast_arrays, m)?,
        wrap_pyfunction!(broadcast_shapes, m)?,
        wrap_pyfunction!(concatenate, m)?,
        wrap_pyfunction!(stack, m)?,
        wrap_pyfunction!(split, m)?,
        wrap_pyfunction!(repeat, m)?,
        wrap_pyfunction!(tile, m)?,
        wrap_pyfunction!(roll, m)?,
        wrap_pyfunction!(pad, m)?,
        wrap_pyfunction!(as_strided, m)?,
        wrap_pyfunction!(contiguous, m)?,
        wrap_pyfunction!(atleast_1d, m)?,
        wrap_pyfunction!(atleast_2d, m)?,
        wrap_pyfunction!(atleast_3d, m)?,
        wrap_pyfunction!(diagonal, m)?,
        wrap_pyfunction!(diag, m)?,
        wrap_pyfunction!(slice, m)?,
        wrap_pyfunction!(slice_update, m)?,
    ] {
        m.add_function(f)?;
    }
    m.add("concat", m.getattr("concatenate")?)?;
    m.add("permute_dims", m.getattr("transpose")?)?;
    Ok(())
}
