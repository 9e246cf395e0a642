//! Linear algebra: decompositions, solvers, determinants, norms.
//!
//! A matrix is the last two axes of an array; the axes before them are a batch, over which everything
//! runs in parallel. Matrices are f32, f64 or complex64; other dtypes are taken as f32. Inside,
//! everything is computed in double precision and rounded once.
//!
//! What cannot be known before a matrix is computed is an error of the evaluation that says which matrix
//! of the batch it was: entries that are NaN or infinite, a singular matrix in [`inv`] and [`solve`], one
//! that is not positive definite in [`cholesky`].
//!
//! Derivatives are there in both directions. Those of [`eigh`] and [`cholesky`] are along symmetric
//! (Hermitian) changes of their argument. Where eigenvalues or singular values coincide, vectors have no
//! derivative, and gradients through them are NaN; gradients through the values alone are right.
//!
//! ```
//! use lazul_core::prelude::*;
//! let a = Array::from_slice(&[2.0f32, 1.0, 1.0, 3.0], [2, 2]);
//! let b = Array::from_slice(&[3.0f32, 5.0], [2]);
//! let x = linalg::solve(&a, &b);
//! assert!(a.matmul(&x).allclose(&b, Tolerance::default()).item::<bool>()?);
//! # Ok::<(), lazul_core::Error>(())
//! ```

use super::{attempt, axis_of, error, prim};
use crate::array::check_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs};
use crate::ops::creation::{arange, identity};
use crate::ops::join::{concatenate, stack};
use crate::scope::{call_site, with_site};
use lazul_ir::{DType, LinalgOp, Prim, Shape, Vectors};

mod norm;
pub(crate) mod rules;
#[cfg(test)]
mod tests;

pub use norm::{Norm, Order, norm};

/// How many vectors a decomposition has, for a matrix `(m, n)` with `k = min(m, n)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Factors {
    /// `k`: as many as the product needs.
    #[default]
    Reduced,
    /// `m` on the left (and `n` on the right): whole bases.
    Full,
}

/// Arrays from a function that may find its arguments wrong, at the caller's line.
#[track_caller]
fn attempt_all<const N: usize>(f: impl FnOnce() -> Result<[Array; N]>) -> [Array; N] {
    let site = call_site();
    with_site(site, f).unwrap_or_else(|e| {
        let failed = Array::fail(e, site);
        std::array::from_fn(|_| failed.clone())
    })
}

/// A matrix in a dtype that is computed with, and its last two dimensions.
fn matrix(op: &'static str, a: &Array) -> Result<(Array, usize, usize)> {
    a.check()?;
    let &[.., m, n] = &a.0.shape[..] else {
        return Err(error(ErrorKind::Shape, op, "needs a matrix: two dimensions or more", &[a]));
    };
    let dtype = match a.0.dtype {
        d @ (DType::F64 | DType::C64) => d,
        _ => DType::F32,
    };
    Ok((a.astype(dtype), m, n))
}

/// A square matrix in a dtype that is computed with, and its length.
fn square(op: &'static str, a: &Array) -> Result<(Array, usize)> {
    let (x, m, n) = matrix(op, a)?;
    if m != n {
        return Err(error(ErrorKind::Shape, op, "needs a square matrix", &[a]));
    }
    Ok((x, n))
}

/// The axes before a matrix, and others behind them.
fn with_lead(a: &Array, tail: &[usize]) -> Shape {
    let lead = &a.0.shape[..a.0.shape.len() - 2];
    lead.iter().chain(tail).copied().collect()
}

/// The dtype of singular values and the like.
fn real_of(dtype: DType) -> DType {
    if dtype == DType::C64 { DType::F32 } else { dtype }
}

/// An operation with one output.
#[track_caller]
fn single(op: LinalgOp, inputs: &[&Array], shape: Shape) -> Array {
    let dtype = inputs[0].0.dtype;
    prim(Prim::Linalg(op), inputs.iter().map(|&a| a.clone()), shape, dtype)
}

/// An operation with several outputs.
#[track_caller]
fn several<const N: usize>(
    op: LinalgOp,
    a: &Array,
    outputs: [(Shape, DType); N],
) -> Result<[Array; N]> {
    outputs.iter().try_for_each(|(shape, _)| check_shape(op.name(), shape))?;
    let inputs = Inputs::from_iter([a.clone()]);
    let made = Array::lazy_many(Prim::Linalg(op), inputs, &outputs, call_site());
    Ok(made.try_into().unwrap_or_else(|_| unreachable!("as many arrays as outputs")))
}

/// The factors of `a (…, m, n)` by elimination with partial pivoting: `(lu, pivots)`.
///
/// `lu (…, m, n)` holds the upper triangular factor, and below its diagonal the lower triangular one,
/// whose diagonal is ones. `pivots` (u32, `(…, min(m, n))`) says which row, at or below it, was swapped
/// with each in turn. A singular matrix is no error.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, 2.0, 4.0, 4.0], [2, 2]);
/// let (lu, pivots) = linalg::lu_factor(&a);
/// assert_eq!(lu.to_vec::<f32>()?, [4.0, 4.0, 0.25, 1.0]);
/// assert_eq!(pivots.to_vec::<u32>()?, [1, 1]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn lu_factor(a: &Array) -> (Array, Array) {
    let [lu, pivots, _] = attempt_all(|| packed("lu_factor", a));
    (lu, pivots)
}

/// `lu`, `pivots` and the order of rows.
fn packed(op: &'static str, a: &Array) -> Result<[Array; 3]> {
    let (a, m, n) = matrix(op, a)?;
    if m > u32::MAX as usize {
        return Err(error(ErrorKind::Shape, op, "rows are counted in u32", &[&a]));
    }
    let outputs = [
        (a.0.shape.clone(), a.0.dtype),
        (with_lead(&a, &[m.min(n)]), DType::U32),
        (with_lead(&a, &[m]), DType::U32),
    ];
    several(LinalgOp::Lu, &a, outputs)
}

/// The factors of `a (…, m, n)` one by one: `(p, l, u)` with `l (…, m, k)` lower triangular, its diagonal
/// ones, `u (…, k, n)` upper triangular, `k = min(m, n)`, and `p` (u32, `(…, m)`) the rows of `l·u` in the
/// order in which `a` has them: `a = (l·u)[p]`.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, 2.0, 4.0, 4.0], [2, 2]);
/// let (p, l, u) = linalg::lu(&a);
/// assert_eq!(l.matmul(&u).take(&p, 0).to_vec::<f32>()?, [1.0, 2.0, 4.0, 4.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn lu(a: &Array) -> (Array, Array, Array) {
    let [p, l, u] = attempt_all(|| {
        let [lu, _, order] = packed("lu", a)?;
        let (l, u) = triangles(&lu);
        Ok([order.argsort(-1), l, u])
    });
    (p, l, u)
}

/// The lower triangular factor `(…, m, k)` with its ones, and the upper one `(…, k, n)`.
#[track_caller]
fn triangles(lu: &Array) -> (Array, Array) {
    let &[.., m, n] = &lu.0.shape[..] else { unreachable!("a matrix") };
    let k = m.min(n);
    let ones = crate::ops::creation::eye(m, k, 0, lu.0.dtype);
    let l = lu.slice_axis(-1, 0, k as i64).tril(-1) + ones;
    (l, lu.slice_axis(-2, 0, k as i64).triu(0))
}

/// The determinant of `a (…, n, n)`: `(…)`, 1 for `n = 0`.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
/// assert_eq!(linalg::det(&a).item::<f32>()?, -2.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn det(a: &Array) -> Array {
    attempt(|| {
        let (a, _) = square("det", a)?;
        Ok(single(LinalgOp::Det, &[&a], with_lead(&a, &[])))
    })
}

/// Sign (or for complex64 direction) of the determinant of `a (…, n, n)`, and the natural logarithm of
/// its magnitude, each `(…)`: `det = sign · exp(logdet)`, without overflow. `(0, -inf)` for a singular
/// matrix.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = identity(500, DType::F32) * -10.0;
/// let (sign, logdet) = linalg::slogdet(&a);
/// assert_eq!(sign.item::<f32>()?, 1.0);
/// assert!((logdet.item::<f32>()? - 500.0 * 10f32.ln()).abs() < 1e-2);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn slogdet(a: &Array) -> (Array, Array) {
    let [sign, logdet] = attempt_all(|| {
        let (a, _) = square("slogdet", a)?;
        let [lu, pivots, _] = packed("slogdet", &a)?;
        let diagonal = lu.diagonal(0);
        let sign = diagonal.sign().prod(-1) * parity(&pivots).astype(lu.0.dtype);
        Ok([sign, diagonal.abs().log().sum(-1)])
    });
    (sign, logdet)
}

/// -1 where an odd number of rows were swapped, else 1: i32 `(…)`.
#[track_caller]
fn parity(pivots: &Array) -> Array {
    let k = pivots.0.shape[pivots.0.shape.len() - 1];
    let swaps = pivots.not_equal(arange(k, DType::U32)).sum(-1);
    1 - (swaps % 2) * 2
}

/// The inverse of `a (…, n, n)`. A singular matrix is an error of the evaluation.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[2.0f32, 0.0, 0.0, 4.0], [2, 2]);
/// assert_eq!(linalg::inv(&a).to_vec::<f32>()?, [0.5, 0.0, 0.0, 0.25]);
/// assert!(linalg::inv(&zeros([2, 2], DType::F32)).eval().is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn inv(a: &Array) -> Array {
    attempt(|| {
        let (a, _) = square("inv", a)?;
        Ok(single(LinalgOp::Inverse, &[&a], a.0.shape.clone()))
    })
}

/// The inverse of a triangular matrix `(…, n, n)`; its other triangle is not read.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[2.0f32, 9.0, 1.0, 4.0], [2, 2]);
/// assert_eq!(linalg::tri_inv(&a, false).to_vec::<f32>()?, [0.5, 0.0, -0.125, 0.25]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn tri_inv(a: &Array, upper: bool) -> Array {
    attempt(|| {
        let (a, n) = square("tri_inv", a)?;
        let one = identity(n, a.0.dtype).broadcast_to(&a.0.shape);
        Ok(triangular(&a, &one, upper, false))
    })
}

/// The Moore-Penrose inverse of `a (…, m, n)`: `(…, n, m)`. Singular values below `10·max(m, n)·ε` of the
/// largest count as zero, `ε` being the dtype's precision.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[2.0f32, 0.0, 0.0, 0.0, 0.0, 0.0], [2, 3]);
/// assert_eq!(linalg::pinv(&a).to_vec::<f32>()?, [0.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn pinv(a: &Array) -> Array {
    attempt(|| {
        let (a, m, n) = matrix("pinv", a)?;
        Ok(single(LinalgOp::PseudoInverse, &[&a], with_lead(&a, &[n, m])))
    })
}

/// `x` with `a·x = b`, for `a (…, n, n)` and `b (n)` or `(…, n, k)`, the axes before being broadcast. A
/// singular matrix is an error of the evaluation.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[3.0f32, 1.0, 1.0, 2.0], [2, 2]);
/// let b = Array::from_slice(&[9.0f32, 8.0], [2]);
/// assert_eq!(linalg::solve(&a, &b).to_vec::<f32>()?, [2.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn solve(a: &Array, b: &Array) -> Array {
    attempt(|| system("solve", LinalgOp::Solve, a, b))
}

/// As [`solve`] for a triangular `a`, the other triangle of which is not read. A zero on its diagonal is
/// an error of the evaluation.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[2.0f32, 9.0, 1.0, 4.0], [2, 2]);
/// let b = Array::from_slice(&[2.0f32, 9.0], [2]);
/// assert_eq!(linalg::solve_triangular(&a, &b, false).to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn solve_triangular(a: &Array, b: &Array, upper: bool) -> Array {
    let op = LinalgOp::SolveTriangular { upper, unit: false };
    attempt(|| system("solve_triangular", op, a, b))
}

/// A system of equations with its operands broadcast.
fn system(name: &'static str, op: LinalgOp, a: &Array, b: &Array) -> Result<Array> {
    b.check()?;
    let (a, n) = square(name, a)?;
    let vector = b.0.shape.len() == 1;
    let b = if vector { b.expand_dims(1) } else { b.clone() };
    let (b, rows, k) = matrix(name, &b)?;
    if rows != n {
        let why = format!("a matrix of {n} rows and a right-hand side of {rows}");
        return Err(error(ErrorKind::Shape, name, why, &[&a, &b]));
    }
    let dtype = DType::promote(a.0.dtype, b.0.dtype);
    let (a, b) = (a.astype(dtype), b.astype(dtype));
    let lead = |x: &Array| x.0.shape[..x.0.shape.len() - 2].to_vec();
    let (lead_a, lead_b) = (lead(&a), lead(&b));
    let x = if lead_a.is_empty() && !lead_b.is_empty() {
        // One matrix for a batch: its factors serve all the columns at once.
        let columns = b.moveaxis(-2, 0); // (n, …, k)
        let flat = columns.flatten(1, -1);
        single(op, &[&a, &flat], flat.0.shape.clone()).reshape(&columns.0.shape).moveaxis(0, -2)
    } else {
        let Some(batch) = Shape::broadcast(&lead_a, &lead_b) else {
            let why = "the batches cannot be broadcast";
            return Err(error(ErrorKind::Shape, name, why, &[&a, &b]));
        };
        let with = |tail: [usize; 2]| batch.iter().copied().chain(tail).collect::<Shape>();
        let a = a.broadcast_to(&with([n, n]));
        single(op, &[&a, &b.broadcast_to(&with([n, k]))], with([n, k]))
    };
    Ok(if vector { x.squeeze(-1) } else { x })
}

/// A triangular system whose operands have one batch and dtype.
#[track_caller]
fn triangular(a: &Array, b: &Array, upper: bool, unit: bool) -> Array {
    single(LinalgOp::SolveTriangular { upper, unit }, &[a, b], b.0.shape.clone())
}

/// The least-squares solution of `a·x = b`, and of several the one of least length: `a (…, m, n)`, `b (m)`
/// or `(…, m, k)`. As [`pinv`] times `b`.
///
/// ```
/// use lazul_core::prelude::*;
/// // The line through (0, 1), (1, 2), (2, 4) that is nearest to them.
/// let a = Array::from_slice(&[1.0f32, 0.0, 1.0, 1.0, 1.0, 2.0], [3, 2]);
/// let b = Array::from_slice(&[1.0f32, 2.0, 4.0], [3]);
/// let line = linalg::lstsq(&a, &b).round(4);
/// assert_eq!(line.to_vec::<f32>()?, [0.8333, 1.5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn lstsq(a: &Array, b: &Array) -> Array {
    attempt(|| {
        b.check()?;
        let (_, m, _) = matrix("lstsq", a)?;
        let axis = b.0.shape.len().saturating_sub(2);
        if b.0.shape.get(axis) != Some(&m) {
            let why = format!("a matrix of {m} rows and a right-hand side of another number");
            return Err(error(ErrorKind::Shape, "lstsq", why, &[a, b]));
        }
        Ok(pinv(a).matmul(b))
    })
}

/// `a (…, n, n)` multiplied with itself: `a^power`, the identity for 0, of the inverse for negative
/// powers.
///
/// ```
/// use lazul_core::prelude::*;
/// // Fibonacci numbers.
/// let a = Array::from_slice(&[1.0f64, 1.0, 1.0, 0.0], [2, 2]);
/// assert_eq!(linalg::matrix_power(&a, 10).to_vec::<f64>()?, [89.0, 55.0, 55.0, 34.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn matrix_power(a: &Array, power: i64) -> Array {
    attempt(|| {
        let (a, n) = square("matrix_power", a)?;
        let mut square = if power < 0 { inv(&a) } else { a.clone() };
        let mut rest = power.unsigned_abs();
        let mut out: Option<Array> = None;
        while rest > 0 {
            if rest & 1 == 1 {
                out = Some(out.map_or_else(|| square.clone(), |x| x.matmul(&square)));
            }
            rest >>= 1;
            if rest > 0 {
                square = square.matmul(&square);
            }
        }
        Ok(out.unwrap_or_else(|| identity(n, a.0.dtype).broadcast_to(&a.0.shape)))
    })
}

/// The triangular factor of a positive definite (Hermitian) matrix `(…, n, n)`: `l` with `a = l·lᴴ`, or
/// with `upper` the `u` with `a = uᴴ·u`. Of `a` only that triangle is read. A matrix that is not positive
/// definite is an error of the evaluation.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[4.0f32, 2.0, 2.0, 5.0], [2, 2]);
/// assert_eq!(linalg::cholesky(&a, false).to_vec::<f32>()?, [2.0, 0.0, 1.0, 2.0]);
/// assert!(linalg::cholesky(&-a, false).eval().is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn cholesky(a: &Array, upper: bool) -> Array {
    attempt(|| {
        let (a, _) = square("cholesky", a)?;
        Ok(single(LinalgOp::Cholesky { upper }, &[&a], a.0.shape.clone()))
    })
}

/// The inverse of a positive definite matrix, from its [`cholesky`] factor `(…, n, n)`.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[4.0f32, 0.0, 0.0, 16.0], [2, 2]);
/// let l = linalg::cholesky(&a, false);
/// assert_eq!(linalg::cholesky_inv(&l, false).to_vec::<f32>()?, [0.25, 0.0, 0.0, 0.0625]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn cholesky_inv(l: &Array, upper: bool) -> Array {
    attempt(|| {
        let (l, _) = square("cholesky_inv", l)?;
        let inverse = tri_inv(&l, upper);
        let adjoint = inverse.mt().conj();
        Ok(if upper { inverse.matmul(&adjoint) } else { adjoint.matmul(&inverse) })
    })
}

/// An orthonormal basis and a triangle: `(q, r)` with `a = q·r`, for `a (…, m, n)`. The columns of
/// `q (…, m, p)` are orthonormal, `r (…, p, n)` is upper triangular with a real diagonal (of either sign);
/// `p` is `min(m, n)`, or `m` for all [`Factors::Full`].
///
/// ```
/// use lazul_core::prelude::*;
/// let a = arange(6, DType::F32).reshape([3, 2]);
/// let (q, r) = linalg::qr(&a, linalg::Factors::Reduced);
/// assert_eq!((q.shape()?, r.shape()?), (&[3, 2][..], &[2, 2][..]));
/// let close = Tolerance { atol: 1e-6, ..Default::default() };
/// assert!(q.matmul(&r).allclose(&a, close).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn qr(a: &Array, factors: Factors) -> (Array, Array) {
    let [q, r] = attempt_all(|| {
        let (a, m, n) = matrix("qr", a)?;
        let full = factors == Factors::Full;
        let p = if full { m } else { m.min(n) };
        let outputs = [[m, p], [p, n]].map(|tail| (with_lead(&a, &tail), a.0.dtype));
        several(LinalgOp::Qr { full }, &a, outputs)
    });
    (q, r)
}

/// Singular values with their vectors: `(u, s, vh)` with `a = u·diag(s)·vh`, for `a (…, m, n)` and
/// `k = min(m, n)`. `s (…, k)` is real and descending; the columns of `u (…, m, k)` and the rows of
/// `vh (…, k, n)` are orthonormal, or with [`Factors::Full`] all of `u (…, m, m)` and `vh (…, n, n)`.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[0.0f32, 2.0, 3.0, 0.0], [2, 2]);
/// let (u, s, vh) = linalg::svd(&a, linalg::Factors::Reduced);
/// assert_eq!(s.to_vec::<f32>()?, [3.0, 2.0]);
/// assert_eq!((u * s).matmul(&vh).to_vec::<f32>()?, [0.0, 2.0, 3.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn svd(a: &Array, factors: Factors) -> (Array, Array, Array) {
    let [u, s, vh] = attempt_all(|| {
        let (a, m, n) = matrix("svd", a)?;
        let k = m.min(n);
        let (p, q, vectors) = match factors {
            Factors::Reduced => (k, k, Vectors::Reduced),
            Factors::Full => (m, n, Vectors::Full),
        };
        let outputs = [
            (with_lead(&a, &[m, p]), a.0.dtype),
            (with_lead(&a, &[k]), real_of(a.0.dtype)),
            (with_lead(&a, &[q, n]), a.0.dtype),
        ];
        several(LinalgOp::Svd(vectors), &a, outputs)
    });
    (u, s, vh)
}

/// The singular values of `a (…, m, n)` alone: real, descending, `(…, min(m, n))`.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[0.0f32, 2.0, 3.0, 0.0], [2, 2]);
/// assert_eq!(linalg::svdvals(&a).to_vec::<f32>()?, [3.0, 2.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn svdvals(a: &Array) -> Array {
    attempt(|| {
        let (a, m, n) = matrix("svdvals", a)?;
        let op = Prim::Linalg(LinalgOp::Svd(Vectors::No));
        Ok(prim(op, [a.clone()], with_lead(&a, &[m.min(n)]), real_of(a.0.dtype)))
    })
}

/// Eigenvalues and eigenvectors of a symmetric (Hermitian) matrix: `(w, v)` with `a = v·diag(w)·vᴴ`, for
/// `a (…, n, n)`, of which the lower triangle is read, or the upper. `w (…, n)` is real and ascending, the
/// columns of `v (…, n, n)` are orthonormal.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, -2.0, -2.0, 1.0], [2, 2]);
/// let (w, v) = linalg::eigh(&a, false);
/// assert_eq!(w.round(5).to_vec::<f32>()?, [-1.0, 3.0]);
/// assert_eq!(v.abs().round(4).to_vec::<f32>()?, [0.7071; 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn eigh(a: &Array, upper: bool) -> (Array, Array) {
    let [w, v] = attempt_all(|| {
        let (a, n) = square("eigh", a)?;
        let w = (with_lead(&a, &[n]), real_of(a.0.dtype));
        let v = (a.0.shape.clone(), a.0.dtype);
        several(LinalgOp::Eigh { upper, vectors: true }, &a, [w, v])
    });
    (w, v)
}

/// The eigenvalues of a symmetric (Hermitian) matrix alone: real, ascending, `(…, n)`; see [`eigh`].
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, -2.0, -2.0, 1.0], [2, 2]);
/// assert_eq!(linalg::eigvalsh(&a, false).round(5).to_vec::<f32>()?, [-1.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn eigvalsh(a: &Array, upper: bool) -> Array {
    attempt(|| {
        let (a, n) = square("eigvalsh", a)?;
        let op = Prim::Linalg(LinalgOp::Eigh { upper, vectors: false });
        Ok(prim(op, [a.clone()], with_lead(&a, &[n]), real_of(a.0.dtype)))
    })
}

/// Eigenvalues and eigenvectors of any square matrix `(…, n, n)`: complex64 `w (…, n)`, in no particular
/// order, and `v (…, n, n)`, whose column `i` has length 1 and is only turned into itself, times `w[i]`.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = Array::from_slice(&[1.0f32, 2.0, 0.0, 3.0], [2, 2]);
/// let (w, v) = linalg::eig(&a);
/// assert!(a.matmul(&v).allclose(v * w, Tolerance::default()).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn eig(a: &Array) -> (Array, Array) {
    let [w, v] = attempt_all(|| {
        let (a, n) = square("eig", a)?;
        let outputs = [with_lead(&a, &[n]), a.0.shape.clone()].map(|shape| (shape, DType::C64));
        several(LinalgOp::Eig { vectors: true }, &a, outputs)
    });
    (w, v)
}

/// The eigenvalues of any square matrix `(…, n, n)` alone: complex64 `(…, n)`, in no particular order.
///
/// ```
/// use lazul_core::prelude::*;
/// // A quarter turn has none that is real.
/// let a = Array::from_slice(&[0.0f32, -1.0, 1.0, 0.0], [2, 2]);
/// let w = linalg::eigvals(&a);
/// assert_eq!(w.real().to_vec::<f32>()?, [0.0, 0.0]);
/// assert_eq!(w.imag().abs().to_vec::<f32>()?, [1.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn eigvals(a: &Array) -> Array {
    attempt(|| {
        let (a, n) = square("eigvals", a)?;
        let op = Prim::Linalg(LinalgOp::Eig { vectors: false });
        Ok(prim(op, [a.clone()], with_lead(&a, &[n]), DType::C64))
    })
}

/// The cross product of vectors of length 3 along an axis, other axes being broadcast. Of a vector of
/// length 2 the third entry is 0.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[1.0f32, 0.0, 0.0], [3]);
/// let y = Array::from_slice(&[0.0f32, 1.0], [2]);
/// assert_eq!(linalg::cross(&x, &y, -1).to_vec::<f32>()?, [0.0, 0.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn cross(a: &Array, b: &Array, axis: i64) -> Array {
    attempt(|| {
        let three = |x: &Array| -> Result<Array> {
            x.check()?;
            let at = axis_of("cross", axis, x)? as i64;
            let x = x.moveaxis(at, -1);
            match x.dim(-1)? {
                3 => Ok(x),
                2 => {
                    let third = x.slice_axis(-1, 0, 1).zeros_like();
                    Ok(concatenate(&[x, third], -1))
                }
                n => {
                    let why = format!("vectors of length {n}, not 2 or 3");
                    Err(error(ErrorKind::Shape, "cross", why, &[a, b]))
                }
            }
        };
        let (x, y) = (three(a)?, three(b)?);
        if Shape::broadcast(&x.0.shape, &y.0.shape).is_none() {
            let why = "the axes that are not crossed cannot be broadcast";
            return Err(error(ErrorKind::Shape, "cross", why, &[a, b]));
        }
        let [x, y] = [x, y].map(|v| [0, 1, 2].map(|i| v.at_index(-1, i)));
        let part = |i: usize, j: usize| &x[i] * &y[j] - &x[j] * &y[i];
        let out = stack(&[part(1, 2), part(2, 0), part(0, 1)], -1);
        out.check()?;
        let at = axis_of("cross", axis, &out)?;
        Ok(out.moveaxis(-1, at as i64))
    })
}
