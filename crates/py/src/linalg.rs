//! `linalg`: norms, factorizations and solvers.

use crate::args::{Axes, Int, made, op, two};
use crate::array::PyArray;
use crate::device::On;
use crate::value::Arr;
use lazul_core::linalg::{self as core, Factors, Norm, Order};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// The norm of vectors or matrices: over one or two axes, or of the flat array.
///
/// >>> mx.linalg.norm(mx.array([3.0, 4.0]))
/// array(5, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, /, ord=None, axis=Axes(None), keepdims=false, *, stream=On(None)))]
fn norm(
    a: Arr,
    ord: Option<&Bound<'_, PyAny>>,
    axis: Axes,
    keepdims: bool,
    stream: On,
) -> PyResult<PyArray> {
    let order = match ord {
        None => None,
        Some(ord) => Some(if let Ok(word) = ord.extract::<String>() {
            match word.as_str() {
                "fro" | "f" => Order::Frobenius,
                "nuc" => Order::Nuclear,
                "inf" => Order::Inf,
                "-inf" => Order::NegInf,
                _ => {
                    let why = format!("[linalg.norm] Invalid ord '{word}'");
                    return Err(PyValueError::new_err(why));
                }
            }
        } else {
            match ord.extract::<f64>() {
                Ok(p) if p == f64::INFINITY => Order::Inf,
                Ok(p) if p == f64::NEG_INFINITY => Order::NegInf,
                Ok(p) => Order::P(p),
                Err(_) => return Err(PyTypeError::new_err("norm: ord is a number or a text")),
            }
        }),
    };
    let how = Norm { order, axes: axis.0.map(|m| m.0.to_vec()), keepdims };
    op(stream, || core::norm(&a.0, &how))
}

macro_rules! of_one {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, *, stream=On(None)))]
            fn $name(a: Arr, stream: On) -> PyResult<PyArray> {
                op(stream, || core::$name(&a.0))
            }
        )*
    };
}

of_one! {
    inv "The inverse of matrices." ">>> mx.linalg.inv(mx.array([[2.0]]))\narray([[0.5]], dtype=float32)";
    pinv "The pseudo-inverse of matrices." ">>> mx.linalg.pinv(mx.ones((2, 3))).shape\n(3, 2)";
    det "The determinants of matrices." ">>> mx.linalg.det(mx.array([[2.0]]))\narray(2, dtype=float32)";
    eigvals "The eigenvalues of matrices, complex." ">>> mx.linalg.eigvals(mx.eye(2)).dtype\nlazul.core.complex64";
}

macro_rules! of_two {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, *, stream=On(None)))]
            fn $name(a: Arr, stream: On) -> PyResult<(PyArray, PyArray)> {
                two(stream, || core::$name(&a.0))
            }
        )*
    };
}

of_two! {
    lu_factor "The triangular factors of matrices in one, and the rows that were swapped." ">>> mx.linalg.lu_factor(mx.eye(2))[0].shape\n(2, 2)";
    slogdet "The sign and the logarithm of the magnitude of determinants." ">>> mx.linalg.slogdet(mx.eye(2))\n(array(1, dtype=float32), array(0, dtype=float32))";
    eig "The eigenvalues and eigenvectors of matrices, complex." ">>> mx.linalg.eig(mx.eye(2))[1].shape\n(2, 2)";
}

macro_rules! triangular {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, upper=false, *, stream=On(None)))]
            fn $name(a: Arr, upper: bool, stream: On) -> PyResult<PyArray> {
                op(stream, || core::$name(&a.0, upper))
            }
        )*
    };
}

triangular! {
    tri_inv "The inverse of triangular matrices." ">>> mx.linalg.tri_inv(mx.array([[2.0]]))\narray([[0.5]], dtype=float32)";
    cholesky "The triangular root of positive definite matrices." ">>> mx.linalg.cholesky(mx.array([[4.0]]))\narray([[2]], dtype=float32)";
    cholesky_inv "The inverse of matrices from their Cholesky factors." ">>> mx.linalg.cholesky_inv(mx.array([[2.0]]))\narray([[0.25]], dtype=float32)";
}

/// Orthonormal and triangular factors of matrices.
///
/// >>> q, r = mx.linalg.qr(mx.eye(2))
#[pyfunction]
#[pyo3(signature = (a, mode="reduced", *, stream=On(None)))]
fn qr(a: Arr, mode: &str, stream: On) -> PyResult<(PyArray, PyArray)> {
    let factors = match mode {
        "reduced" => Factors::Reduced,
        "complete" => Factors::Full,
        other => return Err(PyValueError::new_err(format!("[linalg.qr] unknown mode '{other}'"))),
    };
    two(stream, || core::qr(&a.0, factors))
}

/// The singular value decomposition of matrices: ``u``, ``s`` and ``vt``, or ``s`` alone.
///
/// >>> [x.shape for x in mx.linalg.svd(mx.ones((2, 3)))]
/// [(2, 2), (2,), (3, 3)]
#[pyfunction]
#[pyo3(signature = (a, compute_uv=true, full_matrices=true, *, stream=On(None)))]
fn svd<'py>(
    py: Python<'py>,
    a: Arr,
    compute_uv: bool,
    full_matrices: bool,
    stream: On,
) -> PyResult<Bound<'py, PyAny>> {
    if !compute_uv {
        return op(stream, || core::svdvals(&a.0))?.into_bound_py_any(py);
    }
    let factors = if full_matrices { Factors::Full } else { Factors::Reduced };
    let (u, s, vt) = stream.run(|| core::svd(&a.0, factors))?;
    (made(u)?, made(s)?, made(vt)?).into_bound_py_any(py)
}

/// The singular values of matrices.
///
/// >>> mx.linalg.svdvals(mx.eye(2))
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, *, stream=On(None)))]
fn svdvals(a: Arr, stream: On) -> PyResult<PyArray> {
    op(stream, || core::svdvals(&a.0))
}

fn upper(uplo: &str) -> PyResult<bool> {
    match uplo {
        "L" | "l" => Ok(false),
        "U" | "u" => Ok(true),
        other => {
            let why = format!("[linalg.eigh] Invalid triangle '{other}': 'L' or 'U' is expected");
            Err(PyValueError::new_err(why))
        }
    }
}

/// The eigenvalues of symmetric matrices, of which one triangle is read.
///
/// >>> mx.linalg.eigvalsh(mx.eye(2))
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, UPLO="L", *, stream=On(None)))]
#[allow(non_snake_case)]
fn eigvalsh(a: Arr, UPLO: &str, stream: On) -> PyResult<PyArray> {
    let upper = upper(UPLO)?;
    op(stream, || core::eigvalsh(&a.0, upper))
}

/// The eigenvalues and eigenvectors of symmetric matrices, of which one triangle is read.
///
/// >>> mx.linalg.eigh(mx.eye(2))[0]
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, UPLO="L", *, stream=On(None)))]
#[allow(non_snake_case)]
fn eigh(a: Arr, UPLO: &str, stream: On) -> PyResult<(PyArray, PyArray)> {
    let upper = upper(UPLO)?;
    two(stream, || core::eigh(&a.0, upper))
}

/// The permutation and the triangular factors of matrices.
///
/// >>> p, l, u = mx.linalg.lu(mx.eye(2))
#[pyfunction]
#[pyo3(signature = (a, *, stream=On(None)))]
fn lu(a: Arr, stream: On) -> PyResult<(PyArray, PyArray, PyArray)> {
    let (p, l, u) = stream.run(|| core::lu(&a.0))?;
    Ok((made(p)?, made(l)?, made(u)?))
}

macro_rules! pairs {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, b, *, stream=On(None)))]
            fn $name(a: Arr, b: Arr, stream: On) -> PyResult<PyArray> {
                op(stream, || core::$name(&a.0, &b.0))
            }
        )*
    };
}

pairs! {
    solve "The solutions of ``a @ x = b``." ">>> mx.linalg.solve(mx.array([[2.0]]), mx.array([4.0]))\narray([2], dtype=float32)";
    lstsq "The ``x`` for which ``a @ x`` comes nearest to ``b``." ">>> mx.linalg.lstsq(mx.ones((2, 1)), mx.array([1.0, 3.0])).shape\n(1,)";
}

/// The solutions of ``a @ x = b`` for triangular matrices.
///
/// >>> mx.linalg.solve_triangular(mx.array([[2.0]]), mx.array([4.0]))
/// array([2], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, b, *, upper=false, stream=On(None)))]
fn solve_triangular(a: Arr, b: Arr, upper: bool, stream: On) -> PyResult<PyArray> {
    op(stream, || core::solve_triangular(&a.0, &b.0, upper))
}

/// The cross product of vectors of two or three numbers.
///
/// >>> mx.linalg.cross(mx.array([1.0, 0.0, 0.0]), mx.array([0.0, 1.0, 0.0]))
/// array([0, 0, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, b, axis=Int(-1), *, stream=On(None)))]
fn cross(a: Arr, b: Arr, axis: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || core::cross(&a.0, &b.0, axis.0))
}

/// A whole power of matrices.
///
/// >>> mx.linalg.matrix_power(mx.array([[2.0]]), 3)
/// array([[8]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, n, *, stream=On(None)))]
fn matrix_power(a: Arr, n: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || core::matrix_power(&a.0, n.0))
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(norm, m)?,
        wrap_pyfunction!(inv, m)?,
        wrap_pyfunction!(pinv, m)?,
        wrap_pyfunction!(det, m)?,
        wrap_pyfunction!(eigvals, m)?,
        wrap_pyfunction!(lu_factor, m)?,
        wrap_pyfunction!(slogdet, m)?,
        wrap_pyfunction!(eig, m)?,
        wrap_pyfunction!(tri_inv, m)?,
        wrap_pyfunction!(cholesky, m)?,
        wrap_pyfunction!(cholesky_inv, m)?,
        wrap_pyfunction!(qr, m)?,
        wrap_pyfunction!(svd, m)?,
        wrap_pyfunction!(svdvals, m)?,
        wrap_pyfunction!(eigvalsh, m)?,
        wrap_pyfunction!(eigh, m)?,
        wrap_pyfunction!(lu, m)?,
        wrap_pyfunction!(solve, m)?,
        wrap_pyfunction!(lstsq, m)?,
        wrap_pyfunction!(solve_triangular, m)?,
        wrap_pyfunction!(cross, m)?,
        wrap_pyfunction!(matrix_power, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}
