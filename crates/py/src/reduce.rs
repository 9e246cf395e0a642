//! Reductions, positions of extremes, and scans: functions and the methods of the same names.

use crate::args::{Axes, Count, Int, op, two};
use crate::array::PyArray;
use crate::device::On;
use crate::dtype::Dtype;
use crate::error::OrRaise;
use crate::value::Arr;
use lazul_core::{Array, DType, Scan};
use pyo3::prelude::*;

macro_rules! reductions {
    ($($name:ident $keep:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, /, axis=Axes(None), keepdims=false, *, stream=On(None)))]
            fn $name(a: Arr, axis: Axes, keepdims: bool, stream: On) -> PyResult<PyArray> {
                op(stream, || if keepdims { a.0.$keep(axis) } else { a.0.$name(axis) })
            }
        )*
        fn add_reductions(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

reductions! {
    sum sum_keepdims "The sum over axes; over all by default. Small integers are summed in 32 bits." ">>> mx.sum(mx.array([[1, 2], [3, 4]]), axis=0)\narray([4, 6], dtype=int32)";
    prod prod_keepdims "The product over axes; over all by default." ">>> mx.prod(mx.array([2, 3]))\narray(6, dtype=int32)";
    mean mean_keepdims "The mean over axes; over all by default." ">>> mx.mean(mx.array([1, 2]))\narray(1.5, dtype=float32)";
    median median_keepdims "The median over axes; over all by default." ">>> mx.median(mx.array([1, 5, 2]))\narray(2, dtype=float32)";
    max max_keepdims "The greatest over axes; NaN if one is." ">>> mx.max(mx.array([1, 2]))\narray(2, dtype=int32)";
    min min_keepdims "The least over axes; NaN if one is." ">>> mx.min(mx.array([1, 2]))\narray(1, dtype=int32)";
    all all_keepdims "Whether no element over axes is zero." ">>> mx.all(mx.array([1, 0]))\narray(False, dtype=bool)";
    any any_keepdims "Whether an element over axes is not zero." ">>> mx.any(mx.array([1, 0]))\narray(True, dtype=bool)";
    logsumexp logsumexp_keepdims "log(sum(exp(a))) over axes, without overflow." ">>> mx.logsumexp(mx.array([0.0]))\narray(0, dtype=float32)";
}

macro_rules! reduction_methods {
    ($($name:ident $keep:ident;)*) => {
        #[pymethods]
        impl PyArray {
            $(
                #[doc = concat!("See :func:`lazul.core.", stringify!($name), "`.")]
                #[pyo3(signature = (axis=Axes(None), keepdims=false, *, stream=On(None)))]
                fn $name(&self, axis: Axes, keepdims: bool, stream: On) -> PyResult<PyArray> {
                    let a = self.array();
                    op(stream, || if keepdims { a.$keep(axis) } else { a.$name(axis) })
                }
            )*
        }
    };
}

reduction_methods! {
    sum sum_keepdims; prod prod_keepdims; mean mean_keepdims; max max_keepdims; min min_keepdims;
    all all_keepdims; any any_keepdims; logsumexp logsumexp_keepdims;
}

fn var_of(a: &Array, axis: Axes, keepdims: bool, ddof: usize) -> Array {
    if keepdims { a.var_keepdims(axis, ddof) } else { a.var(axis, ddof) }
}

fn std_of(a: &Array, axis: Axes, keepdims: bool, ddof: usize) -> Array {
    if keepdims { a.std_keepdims(axis, ddof) } else { a.std(axis, ddof) }
}

/// The variance over axes; sums of squares are divided by the count less ``ddof``.
///
/// >>> mx.var(mx.array([1.0, 3.0]))
/// array(1, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, axis=Axes(None), keepdims=false, ddof=Count(0), *, correction=None, stream=On(None)))]
fn var(
    a: Arr,
    axis: Axes,
    keepdims: bool,
    ddof: Count,
    correction: Option<f64>,
    stream: On,
) -> PyResult<PyArray> {
    let ddof = corrected(ddof, correction)?;
    op(stream, || var_of(&a.0, axis, keepdims, ddof))
}

/// The standard deviation over axes: the root of :func:`var`.
///
/// >>> mx.std(mx.array([1.0, 3.0]))
/// array(1, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, axis=Axes(None), keepdims=false, ddof=Count(0), *, correction=None, stream=On(None)))]
fn std(
    a: Arr,
    axis: Axes,
    keepdims: bool,
    ddof: Count,
    correction: Option<f64>,
    stream: On,
) -> PyResult<PyArray> {
    let ddof = corrected(ddof, correction)?;
    op(stream, || std_of(&a.0, axis, keepdims, ddof))
}

/// The array API standard's name for `ddof`.
fn corrected(ddof: Count, correction: Option<f64>) -> PyResult<usize> {
    match correction {
        None => Ok(ddof.0),
        Some(c) if c >= 0.0 && c.fract() == 0.0 && c < 1e15 => Ok(c as usize),
        Some(c) => {
            let why = format!("correction is a whole number that is not negative, not {c}");
            Err(pyo3::exceptions::PyValueError::new_err(why))
        }
    }
}

/// The least and the greatest over axes.
///
/// >>> mx.minmax(mx.array([3, 1, 2]))
/// (array(1, dtype=int32), array(3, dtype=int32))
#[pyfunction]
#[pyo3(signature = (a, /, axis=Axes(None), keepdims=false, *, stream=On(None)))]
fn minmax(a: Arr, axis: Axes, keepdims: bool, stream: On) -> PyResult<(PyArray, PyArray)> {
    two(stream, || if keepdims { a.0.minmax_keepdims(axis) } else { a.0.minmax(axis) })
}

/// How many elements over axes are not zero.
///
/// >>> mx.count_nonzero(mx.array([1, 0, 2]))
/// array(2, dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, *, axis=Axes(None), keepdims=false, stream=On(None)))]
fn count_nonzero(a: Arr, axis: Axes, keepdims: bool, stream: On) -> PyResult<PyArray> {
    op(stream, || if keepdims { a.0.count_nonzero_keepdims(axis) } else { a.0.count_nonzero(axis) })
}

/// exp(a) divided by its sum over axes.
///
/// >>> mx.softmax(mx.array([0.0, 0.0]))
/// array([0.5, 0.5], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, axis=Axes(None), *, precise=false, stream=On(None)))]
fn softmax(a: Arr, axis: Axes, precise: bool, stream: On) -> PyResult<PyArray> {
    // It is precise in any case.
    let _ = precise;
    op(stream, || a.0.softmax(axis))
}

/// The position of an extreme along an axis, or in the flat array.
fn position(
    a: &Array,
    axis: Option<Int>,
    keepdims: bool,
    f: impl FnOnce(&Array, i64) -> Array,
) -> Array {
    match axis {
        Some(axis) => {
            let at = f(a, axis.0);
            if keepdims { at.expand_dims(axis.0) } else { at }
        }
        None => {
            let at = f(&a.flatten(0, -1), 0);
            match (keepdims, a.ndim()) {
                (true, Ok(rank)) => at.reshape(vec![1usize; rank]),
                _ => at,
            }
        }
    }
}

/// Whether an axis counts from the end has to be settled before the axis is gone.
fn from_start(a: &Array, axis: Option<Int>) -> Option<Int> {
    axis.map(|Int(i)| Int(if i < 0 { a.ndim().map_or(i, |r| i + r as i64) } else { i }))
}

macro_rules! position_functions {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, /, axis=None, keepdims=false, *, stream=On(None)))]
            fn $name(a: Arr, axis: Option<Int>, keepdims: bool, stream: On) -> PyResult<PyArray> {
                let axis = from_start(&a.0, axis);
                op(stream, || position(&a.0, axis, keepdims, |a, i| a.$name(i)))
            }
        )*
    };
}

position_functions! {
    argmax "The position of the greatest along an axis, or in the flat array, as uint32." ">>> mx.argmax(mx.array([1, 3, 2]))\narray(1, dtype=uint32)";
    argmin "The position of the least along an axis, or in the flat array, as uint32." ">>> mx.argmin(mx.array([2, 1, 3]))\narray(1, dtype=uint32)";
}

/// A scan along an axis, or over the flat array.
fn scan(
    a: &Array,
    axis: Option<Int>,
    reverse: bool,
    inclusive: bool,
    f: impl FnOnce(&Array, i64, Scan) -> Array,
) -> Array {
    let how = Scan { reverse, inclusive };
    match axis {
        Some(axis) => f(a, axis.0, how),
        None => f(&a.flatten(0, -1), 0, how),
    }
}

macro_rules! scans {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, /, axis=None, *, reverse=false, inclusive=true, stream=On(None)))]
            fn $name(
                a: Arr,
                axis: Option<Int>,
                reverse: bool,
                inclusive: bool,
                stream: On,
            ) -> PyResult<PyArray> {
                op(stream, || scan(&a.0, axis, reverse, inclusive, |a, i, how| a.$name(i, how)))
            }
        )*
    };
}

scans! {
    cummax "The greatest so far along an axis, or over the flat array." ">>> mx.cummax(mx.array([1, 3, 2]))\narray([1, 3, 3], dtype=int32)";
    cummin "The least so far along an axis, or over the flat array." ">>> mx.cummin(mx.array([3, 1, 2]))\narray([3, 1, 1], dtype=int32)";
    logcumsumexp "log(cumsum(exp(a))) along an axis, without overflow." ">>> mx.logcumsumexp(mx.array([0.0]))\narray([0], dtype=float32)";
}

fn cast(a: Array, dtype: Option<Dtype>) -> Array {
    dtype.map_or_else(|| a.clone(), |d| a.astype(d.0))
}

/// The sum so far along an axis, or over the flat array.
///
/// >>> mx.cumsum(mx.array([1, 2, 3]))
/// array([1, 3, 6], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, axis=None, *, reverse=false, inclusive=true, dtype=None, stream=On(None)))]
fn cumsum(
    a: Arr,
    axis: Option<Int>,
    reverse: bool,
    inclusive: bool,
    dtype: Option<Dtype>,
    stream: On,
) -> PyResult<PyArray> {
    op(stream, || scan(&cast(a.0, dtype), axis, reverse, inclusive, |a, i, how| a.cumsum(i, how)))
}

/// The product so far along an axis, or over the flat array.
///
/// >>> mx.cumprod(mx.array([1, 2, 3]))
/// array([1, 2, 6], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, axis=None, *, reverse=false, inclusive=true, dtype=None, stream=On(None)))]
fn cumprod(
    a: Arr,
    axis: Option<Int>,
    reverse: bool,
    inclusive: bool,
    dtype: Option<Dtype>,
    stream: On,
) -> PyResult<PyArray> {
    op(stream, || scan(&cast(a.0, dtype), axis, reverse, inclusive, |a, i, how| a.cumprod(i, how)))
}

macro_rules! scan_methods {
    ($($name:ident;)*) => {
        #[pymethods]
        impl PyArray {
            $(
                #[doc = concat!("See :func:`lazul.core.", stringify!($name), "`.")]
                #[pyo3(signature = (axis=None, *, reverse=false, inclusive=true, stream=On(None)))]
                fn $name(
                    &self,
                    axis: Option<Int>,
                    reverse: bool,
                    inclusive: bool,
                    stream: On,
                ) -> PyResult<PyArray> {
                    let a = self.array();
                    op(stream, || scan(&a, axis, reverse, inclusive, |a, i, how| a.$name(i, how)))
                }
            )*

            /// See :func:`lazul.core.argmax`.
            #[pyo3(signature = (axis=None, keepdims=false, *, stream=On(None)))]
            fn argmax(&self, axis: Option<Int>, keepdims: bool, stream: On) -> PyResult<PyArray> {
                self::argmax(Arr(self.array()), axis, keepdims, stream)
            }

            /// See :func:`lazul.core.argmin`.
            #[pyo3(signature = (axis=None, keepdims=false, *, stream=On(None)))]
            fn argmin(&self, axis: Option<Int>, keepdims: bool, stream: On) -> PyResult<PyArray> {
                self::argmin(Arr(self.array()), axis, keepdims, stream)
            }

            /// See :func:`lazul.core.var`.
            #[pyo3(signature = (axis=Axes(None), keepdims=false, ddof=Count(0), *, correction=None, stream=On(None)))]
            fn var(
                &self,
                axis: Axes,
                keepdims: bool,
                ddof: Count,
                correction: Option<f64>,
                stream: On,
            ) -> PyResult<PyArray> {
                self::var(Arr(self.array()), axis, keepdims, ddof, correction, stream)
            }

            /// See :func:`lazul.core.std`.
            #[pyo3(signature = (axis=Axes(None), keepdims=false, ddof=Count(0), *, correction=None, stream=On(None)))]
            fn std(
                &self,
                axis: Axes,
                keepdims: bool,
                ddof: Count,
                correction: Option<f64>,
                stream: On,
            ) -> PyResult<PyArray> {
                self::std(Arr(self.array()), axis, keepdims, ddof, correction, stream)
            }
        }
    };
}

scan_methods! { cumsum; cumprod; cummax; cummin; logcumsumexp; }

/// Differences of neighbours along an axis, `n` times.
///
/// >>> mx.diff(mx.array([1, 4, 9]))
/// array([3, 5], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, n=Count(1), axis=Int(-1), *, prepend=None, append=None, stream=On(None)))]
fn diff(
    a: Arr,
    n: Count,
    axis: Int,
    prepend: Option<Arr>,
    append: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let parts: Vec<Array> = prepend.into_iter().chain([a]).chain(append).map(|a| a.0).collect();
    op(stream, || match &parts[..] {
        [one] => one.diff(n.0, axis.0),
        all => lazul_core::concatenate(all, axis.0).diff(n.0, axis.0),
    })
}

/// The sum of a diagonal of two axes.
///
/// >>> mx.trace(mx.eye(3))
/// array(3, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, offset=Int(0), axis1=Int(0), axis2=Int(1), dtype=None, *, stream=On(None)))]
fn trace(
    a: Arr,
    offset: Int,
    axis1: Int,
    axis2: Int,
    dtype: Option<Dtype>,
    stream: On,
) -> PyResult<PyArray> {
    let own: DType = a.0.dtype().or_raise()?;
    let dtype = dtype.map_or(own, |d| d.0);
    op(stream, || a.0.astype(dtype).trace_of(offset.0, axis1.0, axis2.0))
}

pub(crate) fn add_to(m: &Bound<'_, PyModule>) -> PyResult<()> {
    add_reductions(m)?;
    for f in [
        wrap_pyfunction!(var, m)?,
        wrap_pyfunction!(self::std, m)?,
        wrap_pyfunction!(minmax, m)?,
        wrap_pyfunction!(count_nonzero, m)?,
        wrap_pyfunction!(softmax, m)?,
        wrap_pyfunction!(argmax, m)?,
        wrap_pyfunction!(argmin, m)?,
        wrap_pyfunction!(cumsum, m)?,
        wrap_pyfunction!(cumprod, m)?,
        wrap_pyfunction!(cummax, m)?,
        wrap_pyfunction!(cummin, m)?,
        wrap_pyfunction!(logcumsumexp, m)?,
        wrap_pyfunction!(diff, m)?,
        wrap_pyfunction!(trace, m)?,
    ] {
        m.add_function(f)?;
    }
    m.add("cumulative_sum", m.getattr("cumsum")?)?;
    m.add("cumulative_prod", m.getattr("cumprod")?)
}
