//! Element-wise functions: one row of a table each.

use crate::args::{Int, op, two};
use crate::array::PyArray;
use crate::device::On;
use crate::dtype::Dtype;
use crate::error::OrRaise;
use crate::value::{Arr, Value, pair};
use lazul_core::{DType, Tolerance, where_};
use pyo3::prelude::*;

/// Functions of one array, with a method of the class for those that MLX has as one.
macro_rules! unary {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, /, *, stream=On(None)))]
            fn $name(a: Arr, stream: On) -> PyResult<PyArray> {
                op(stream, || a.0.$name())
            }
        )*
        fn add_unary(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

unary! {
    abs "The absolute value." ">>> mx.abs(mx.array([-2, 3]))\narray([2, 3], dtype=int32)";
    sign "-1, 0 or 1; of complex numbers, the number of length one in their direction." ">>> mx.sign(mx.array([-2, 3]))\narray([-1, 1], dtype=int32)";
    positive "The array itself; not for bool." ">>> mx.positive(mx.array([-2, 3]))\narray([-2, 3], dtype=int32)";
    negative "The negative; not for bool." ">>> mx.negative(mx.array([-2, 3]))\narray([2, -3], dtype=int32)";
    square "The square." ">>> mx.square(mx.array([-2, 3]))\narray([4, 9], dtype=int32)";
    sqrt "The square root." ">>> mx.sqrt(mx.array([4.0, 9.0]))\narray([2, 3], dtype=float32)";
    rsqrt "One over the square root." ">>> mx.rsqrt(mx.array([4.0, 16.0]))\narray([0.5, 0.25], dtype=float32)";
    reciprocal "One over the elements." ">>> mx.reciprocal(mx.array([4.0, 2.0]))\narray([0.25, 0.5], dtype=float32)";
    exp "e to the power of the elements." ">>> mx.exp(mx.array([0.0, 1.0]))\narray([1, 2.71828], dtype=float32)";
    expm1 "exp(a) - 1, exact near 0." ">>> mx.expm1(mx.array([0.0]))\narray([0], dtype=float32)";
    log "The natural logarithm." ">>> mx.log(mx.array([1.0]))\narray([0], dtype=float32)";
    log2 "The logarithm to base 2." ">>> mx.log2(mx.array([8.0]))\narray([3], dtype=float32)";
    log10 "The logarithm to base 10." ">>> mx.log10(mx.array([100.0]))\narray([2], dtype=float32)";
    log1p "log(1 + a), exact near 0." ">>> mx.log1p(mx.array([0.0]))\narray([0], dtype=float32)";
    sin "The sine." ">>> mx.sin(mx.array([0.0]))\narray([0], dtype=float32)";
    cos "The cosine." ">>> mx.cos(mx.array([0.0]))\narray([1], dtype=float32)";
    tan "The tangent." ">>> mx.tan(mx.array([0.0]))\narray([0], dtype=float32)";
    arcsin "The inverse sine." ">>> mx.arcsin(mx.array([0.0]))\narray([0], dtype=float32)";
    arccos "The inverse cosine." ">>> mx.arccos(mx.array([1.0]))\narray([0], dtype=float32)";
    arctan "The inverse tangent." ">>> mx.arctan(mx.array([0.0]))\narray([0], dtype=float32)";
    sinh "The hyperbolic sine." ">>> mx.sinh(mx.array([0.0]))\narray([0], dtype=float32)";
    cosh "The hyperbolic cosine." ">>> mx.cosh(mx.array([0.0]))\narray([1], dtype=float32)";
    tanh "The hyperbolic tangent." ">>> mx.tanh(mx.array([0.0]))\narray([0], dtype=float32)";
    arcsinh "The inverse hyperbolic sine." ">>> mx.arcsinh(mx.array([0.0]))\narray([0], dtype=float32)";
    arccosh "The inverse hyperbolic cosine." ">>> mx.arccosh(mx.array([1.0]))\narray([0], dtype=float32)";
    arctanh "The inverse hyperbolic tangent." ">>> mx.arctanh(mx.array([0.0]))\narray([0], dtype=float32)";
    erf "The error function." ">>> mx.erf(mx.array([0.0]))\narray([0], dtype=float32)";
    erfinv "The inverse of the error function." ">>> mx.erfinv(mx.array([0.0]))\narray([0], dtype=float32)";
    sigmoid "1 / (1 + exp(-a))." ">>> mx.sigmoid(mx.array([0.0]))\narray([0.5], dtype=float32)";
    floor "The largest integer that is not above." ">>> mx.floor(mx.array([1.5, -1.5]))\narray([1, -2], dtype=float32)";
    ceil "The smallest integer that is not below." ">>> mx.ceil(mx.array([1.5, -1.5]))\narray([2, -1], dtype=float32)";
    trunc "The integer next to it towards 0." ">>> mx.trunc(mx.array([1.5, -1.5]))\narray([1, -1], dtype=float32)";
    degrees "Radians as degrees." ">>> mx.degrees(mx.array([0.0]))\narray([0], dtype=float32)";
    radians "Degrees as radians." ">>> mx.radians(mx.array([0.0]))\narray([0], dtype=float32)";
    isnan "Whether elements are NaN." ">>> mx.isnan(mx.array([1.0, mx.nan]))\narray([False, True], dtype=bool)";
    isinf "Whether elements are infinite." ">>> mx.isinf(mx.array([1.0, mx.inf]))\narray([False, True], dtype=bool)";
    isfinite "Whether elements are neither NaN nor infinite." ">>> mx.isfinite(mx.array([1.0, mx.inf]))\narray([True, False], dtype=bool)";
    isposinf "Whether elements are infinite and positive." ">>> mx.isposinf(mx.array([-mx.inf, mx.inf]))\narray([False, True], dtype=bool)";
    isneginf "Whether elements are infinite and negative." ">>> mx.isneginf(mx.array([-mx.inf, mx.inf]))\narray([True, False], dtype=bool)";
    logical_not "Whether elements are zero." ">>> mx.logical_not(mx.array([0, 2]))\narray([True, False], dtype=bool)";
    bitwise_invert "All bits the other way." ">>> mx.bitwise_invert(mx.array([0, 1]))\narray([-1, -2], dtype=int32)";
    real "The real parts." ">>> mx.real(mx.array([1 + 2j]))\narray([1], dtype=float32)";
    imag "The imaginary parts." ">>> mx.imag(mx.array([1 + 2j]))\narray([2], dtype=float32)";
    conj "The complex conjugate." ">>> mx.conj(mx.array([1 + 2j]))\narray([1-2j], dtype=complex64)";
    stop_gradient "The array, through which no gradient passes." ">>> mx.stop_gradient(mx.array([1.0]))\narray([1], dtype=float32)";
    to_fp8 "Floats as 8-bit floats (e4m3) in uint8, the nearest that there is." ">>> mx.to_fp8(mx.array([1.0]))\narray([56], dtype=uint8)";
}

/// Methods that are the functions of the same name.
macro_rules! unary_methods {
    ($($name:ident $doc:literal;)*) => {
        #[pymethods]
        impl PyArray {
            $(
                #[doc = $doc]
                #[pyo3(signature = (*, stream=On(None)))]
                fn $name(&self, stream: On) -> PyResult<PyArray> {
                    let a = self.array();
                    op(stream, || a.$name())
                }
            )*
            fn __abs__(&self) -> PyResult<PyArray> {
                op(On(None), || self.array().abs())
            }
            fn __neg__(&self) -> PyResult<PyArray> {
                op(On(None), || self.array().negative())
            }
            fn __pos__(&self) -> PyResult<PyArray> {
                op(On(None), || self.array().positive())
            }
            fn __invert__(&self) -> PyResult<PyArray> {
                op(On(None), || self.array().bitwise_invert())
            }
            /// The nearest number of so many decimals; halves go to the even one.
            #[pyo3(signature = (decimals=Int(0), *, stream=On(None)))]
            fn round(&self, decimals: Int, stream: On) -> PyResult<PyArray> {
                let a = self.array();
                op(stream, || a.round(clamped(decimals)))
            }
            #[pyo3(signature = (decimals=Int(0)))]
            fn __round__(&self, decimals: Int) -> PyResult<PyArray> {
                op(On(None), || self.array().round(clamped(decimals)))
            }
        }
    };
}

unary_methods! {
    abs "The absolute value; see :func:`lazul.core.abs`.";
    square "The square; see :func:`lazul.core.square`.";
    sqrt "The square root; see :func:`lazul.core.sqrt`.";
    rsqrt "One over the square root; see :func:`lazul.core.rsqrt`.";
    reciprocal "One over the elements; see :func:`lazul.core.reciprocal`.";
    exp "e to the power of the elements; see :func:`lazul.core.exp`.";
    log "The natural logarithm; see :func:`lazul.core.log`.";
    log2 "The logarithm to base 2; see :func:`lazul.core.log2`.";
    log10 "The logarithm to base 10; see :func:`lazul.core.log10`.";
    log1p "log(1 + a); see :func:`lazul.core.log1p`.";
    sin "The sine; see :func:`lazul.core.sin`.";
    cos "The cosine; see :func:`lazul.core.cos`.";
    conj "The complex conjugate; see :func:`lazul.core.conj`.";
}

fn clamped(n: Int) -> i32 {
    n.0.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Functions of two arrays or scalars.
macro_rules! binary {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, b, stream=On(None)))]
            fn $name(a: Value, b: Value, stream: On) -> PyResult<PyArray> {
                let (a, b) = pair(a, b)?;
                op(stream, || a.$name(&b))
            }
        )*
        fn add_binary(m: &Bound<'_, PyModule>) -> PyResult<()> {
            $(m.add_function(wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

binary! {
    add "a + b." ">>> mx.add(mx.array([1, 2]), 3)\narray([4, 5], dtype=int32)";
    subtract "a - b." ">>> mx.subtract(mx.array([1, 2]), 3)\narray([-2, -1], dtype=int32)";
    multiply "a * b." ">>> mx.multiply(mx.array([1, 2]), 3)\narray([3, 6], dtype=int32)";
    divide "a / b; of integers a float." ">>> mx.divide(mx.array([1, 2]), 2)\narray([0.5, 1], dtype=float32)";
    floor_divide "a / b, rounded down; an integer over 0 is 0." ">>> mx.floor_divide(mx.array([7, -7]), 2)\narray([3, -4], dtype=int32)";
    remainder "What is left of a / b rounded down; it has b's sign." ">>> mx.remainder(mx.array([7, -7]), 3)\narray([1, 2], dtype=int32)";
    power "a to the power of b." ">>> mx.power(mx.array([2, 3]), 2)\narray([4, 9], dtype=int32)";
    maximum "The greater of both; NaN if one is." ">>> mx.maximum(mx.array([1, 5]), 3)\narray([3, 5], dtype=int32)";
    minimum "The lesser of both; NaN if one is." ">>> mx.minimum(mx.array([1, 5]), 3)\narray([1, 3], dtype=int32)";
    logaddexp "log(exp(a) + exp(b))." ">>> mx.logaddexp(mx.array([0.0]), -mx.inf)\narray([0], dtype=float32)";
    arctan2 "The angle of the point (b, a)." ">>> mx.arctan2(mx.array([0.0]), 1.0)\narray([0], dtype=float32)";
    equal "Whether elements are equal." ">>> mx.equal(mx.array([1, 2]), 2)\narray([False, True], dtype=bool)";
    not_equal "Whether elements differ." ">>> mx.not_equal(mx.array([1, 2]), 2)\narray([True, False], dtype=bool)";
    less "a < b." ">>> mx.less(mx.array([1, 2]), 2)\narray([True, False], dtype=bool)";
    less_equal "a <= b." ">>> mx.less_equal(mx.array([1, 3]), 2)\narray([True, False], dtype=bool)";
    greater "a > b." ">>> mx.greater(mx.array([1, 3]), 2)\narray([False, True], dtype=bool)";
    greater_equal "a >= b." ">>> mx.greater_equal(mx.array([1, 2]), 2)\narray([False, True], dtype=bool)";
    logical_and "Whether both are not zero." ">>> mx.logical_and(mx.array([0, 2]), True)\narray([False, True], dtype=bool)";
    logical_or "Whether one is not zero." ">>> mx.logical_or(mx.array([0, 2]), False)\narray([False, True], dtype=bool)";
    logical_xor "Whether just one is not zero." ">>> mx.logical_xor(mx.array([0, 2]), True)\narray([True, False], dtype=bool)";
    bitwise_and "The bits that both have." ">>> mx.bitwise_and(mx.array([6]), 3)\narray([2], dtype=int32)";
    bitwise_or "The bits that one has." ">>> mx.bitwise_or(mx.array([6]), 3)\narray([7], dtype=int32)";
    bitwise_xor "The bits that just one has." ">>> mx.bitwise_xor(mx.array([6]), 3)\narray([5], dtype=int32)";
    left_shift "The bits of a moved up by b." ">>> mx.left_shift(mx.array([1]), 3)\narray([8], dtype=int32)";
    right_shift "The bits of a moved down by b." ">>> mx.right_shift(mx.array([8]), 3)\narray([1], dtype=int32)";
}

/// Quotient rounded down and what is left of it.
///
/// >>> mx.divmod(mx.array([7]), 2)
/// (array([3], dtype=int32), array([1], dtype=int32))
#[pyfunction]
#[pyo3(signature = (a, b, stream=On(None)))]
fn divmod(a: Value, b: Value, stream: On) -> PyResult<(PyArray, PyArray)> {
    let (a, b) = pair(a, b)?;
    two(stream, || a.divmod(&b))
}

/// Elements of `x` where the condition holds, of `y` elsewhere; with the condition alone, the indices of its
/// elements that are not zero.
///
/// >>> mx.where(mx.array([True, False]), 1, 2)
/// array([1, 2], dtype=int32)
#[pyfunction]
#[pyo3(name = "where", signature = (condition, x=None, y=None, /, *, stream=On(None)))]
fn where_function<'py>(
    py: Python<'py>,
    condition: Arr,
    x: Option<Value>,
    y: Option<Value>,
    stream: On,
) -> PyResult<Bound<'py, PyAny>> {
    match (x, y) {
        (Some(x), Some(y)) => {
            let (x, y) = pair(x, y)?;
            let made = op(stream, || where_(&condition.0, &x, &y))?;
            Ok(Bound::new(py, made)?.into_any())
        }
        (None, None) => crate::sets::indices(py, &condition.0),
        _ => Err(pyo3::exceptions::PyTypeError::new_err("where: x and y are given, or neither")),
    }
}

/// Elements kept between two bounds.
///
/// >>> mx.clip(mx.array([-1, 5]), 0, 3)
/// array([0, 3], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, /, a_min=None, a_max=None, *, stream=On(None)))]
fn clip(a: Arr, a_min: Option<Value>, a_max: Option<Value>, stream: On) -> PyResult<PyArray> {
    let dtype = a.0.dtype().or_raise()?;
    if a_min.is_none() && a_max.is_none() {
        return Err(pyo3::exceptions::PyValueError::new_err(
            "At least one of a_min or a_max must be given",
        ));
    }
    let low = a_min.map(|v| v.beside(dtype)).transpose()?;
    let high = a_max.map(|v| v.beside(dtype)).transpose()?;
    op(stream, || a.0.clip(low.as_ref(), high.as_ref()))
}

/// The nearest number of so many decimals; halves go to the even one.
///
/// >>> mx.round(mx.array([0.5, 1.5]))
/// array([0, 2], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, decimals=Int(0), stream=On(None)))]
fn round(a: Arr, decimals: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.round(clamped(decimals)))
}

/// Numbers in place of NaN and the infinities, which become the dtype's limits by default.
///
/// >>> mx.nan_to_num(mx.array([mx.nan]), nan=7)
/// array([7], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, nan=0.0, posinf=None, neginf=None, *, stream=On(None)))]
fn nan_to_num(
    a: Arr,
    nan: f64,
    posinf: Option<f64>,
    neginf: Option<f64>,
    stream: On,
) -> PyResult<PyArray> {
    op(stream, || a.0.nan_to_num(nan, posinf, neginf))
}

/// Whether elements are equal up to ``atol + rtol * abs(b)``.
///
/// >>> mx.isclose(mx.array([1.0]), mx.array([1.0 + 1e-9]))
/// array([True], dtype=bool)
#[pyfunction]
#[pyo3(signature = (a, b, /, rtol=1e-5, atol=1e-8, *, equal_nan=false, stream=On(None)))]
fn isclose(
    a: Value,
    b: Value,
    rtol: f64,
    atol: f64,
    equal_nan: bool,
    stream: On,
) -> PyResult<PyArray> {
    let (a, b) = pair(a, b)?;
    op(stream, || a.isclose(&b, Tolerance { rtol, atol, equal_nan }))
}

/// Whether all elements are equal up to ``atol + rtol * abs(b)``.
///
/// >>> mx.allclose(mx.array([1.0]), mx.array([1.0 + 1e-9]))
/// array(True, dtype=bool)
#[pyfunction]
#[pyo3(signature = (a, b, /, rtol=1e-5, atol=1e-8, *, equal_nan=false, stream=On(None)))]
fn allclose(
    a: Value,
    b: Value,
    rtol: f64,
    atol: f64,
    equal_nan: bool,
    stream: On,
) -> PyResult<PyArray> {
    let (a, b) = pair(a, b)?;
    op(stream, || a.allclose(&b, Tolerance { rtol, atol, equal_nan }))
}

/// Whether two arrays have the same shape and elements.
///
/// >>> mx.array_equal(mx.array([1]), mx.array([1.0]))
/// array(True, dtype=bool)
#[pyfunction]
#[pyo3(signature = (a, b, equal_nan=false, stream=On(None)))]
fn array_equal(a: Value, b: Value, equal_nan: bool, stream: On) -> PyResult<PyArray> {
    let (a, b) = pair(a, b)?;
    op(stream, || a.array_equal(&b, equal_nan))
}

/// The array in another dtype.
///
/// >>> mx.astype(mx.array([1.7]), mx.int32)
/// array([1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, dtype, /, *, stream=On(None), copy=None))]
fn astype(a: Arr, dtype: Dtype, stream: On, copy: Option<bool>) -> PyResult<PyArray> {
    // Arrays do not change: a copy is never needed.
    let _ = copy;
    op(stream, || a.0.astype(dtype.0))
}

/// The same bits in another dtype; the last axis is longer or shorter where sizes differ.
///
/// >>> mx.view(mx.array([1.0]), mx.int32)
/// array([1065353216], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, dtype, stream=On(None)))]
fn view(a: Arr, dtype: Dtype, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.view(dtype.0))
}

/// Floats from 8-bit ones (e4m3) in uint8.
///
/// >>> mx.from_fp8(mx.array([56], mx.uint8), mx.float32)
/// array([1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, dtype=Dtype(DType::BF16), *, stream=On(None)))]
fn from_fp8(x: Arr, dtype: Dtype, stream: On) -> PyResult<PyArray> {
    op(stream, || x.0.from_fp8(dtype.0))
}

pub(crate) fn add_to(m: &Bound<'_, PyModule>) -> PyResult<()> {
    add_unary(m)?;
    add_binary(m)?;
    for f in [
        wrap_pyfunction!(divmod, m)?,
        wrap_pyfunction!(where_function, m)?,
        wrap_pyfunction!(clip, m)?,
        wrap_pyfunction!(round, m)?,
        wrap_pyfunction!(nan_to_num, m)?,
        wrap_pyfunction!(isclose, m)?,
        wrap_pyfunction!(allclose, m)?,
        wrap_pyfunction!(array_equal, m)?,
        wrap_pyfunction!(astype, m)?,
        wrap_pyfunction!(view, m)?,
        wrap_pyfunction!(from_fp8, m)?,
    ] {
        m.add_function(f)?;
    }
    for (alias, name) in [
        ("acos", "arccos"),
        ("acosh", "arccosh"),
        ("asin", "arcsin"),
        ("asinh", "arcsinh"),
        ("atan", "arctan"),
        ("atanh", "arctanh"),
        ("atan2", "arctan2"),
        ("pow", "power"),
        ("bitwise_left_shift", "left_shift"),
        ("bitwise_right_shift", "right_shift"),
        ("conjugate", "conj"),
    ] {
        m.add(alias, m.getattr(name)?)?;
    }
    Ok(())
}
