//! Singular values and vectors, and the inverse of matrices that have none.

use super::field::Field;
use super::matrix::Matrix;
use super::{Trouble, qr, scratch};
use faer::diag::DiagMut;
use faer::dyn_stack::MemStack;
use faer::linalg::matmul::matmul;
use faer::linalg::svd::{self as dense, ComputeSvdVectors};
use faer::{Accum, Par, Spec};
use lazul_ir::Vectors;

/// `a = u·diag(s)·vᴴ`; `u` and `v` have no columns if they were not asked for.
pub(super) struct Svd<T> {
    pub(super) u: Matrix<T>,
    pub(super) s: Vec<f64>,
    pub(super) v: Matrix<T>,
}

pub(super) fn svd<T: Field>(mut a: Matrix<T>, vectors: Vectors) -> Result<Svd<T>, Trouble> {
    let unit = a.normalise();
    let mut out = if a.rows < a.columns {
        let Svd { u, s, v } = tall(a.adjoint()?, vectors)?;
        Svd { u: v, s, v: u }
    } else {
        tall(a, vectors)?
    };
    out.s.iter_mut().for_each(|s| *s *= unit);
    Ok(out)
}

/// Of a matrix with at least as many rows as columns.
fn tall<T: Field>(a: Matrix<T>, vectors: Vectors) -> Result<Svd<T>, Trouble> {
    let (m, n) = (a.rows, a.columns);
    if n == 0 {
        let columns = if vectors == Vectors::Full { m } else { 0 };
        return Ok(Svd { u: Matrix::identity(m, columns)?, s: vec![], v: Matrix::zeros(0, 0)? });
    }
    if m < 2 * n {
        return square(a, vectors);
    }
    // Much taller than wide: the values are those of R, and Q turns its vectors.
    let qr = qr::factor(a)?;
    let mut r = Matrix::zeros(n, n)?;
    for j in 0..n {
        for i in 0..=j {
            r.column_mut(j)[i] = qr.r(i, j);
        }
    }
    let small = square(r, vectors)?;
    if vectors == Vectors::No {
        return Ok(Svd { u: Matrix::zeros(m, 0)?, ..small });
    }
    let mut u = qr.q(if vectors == Vectors::Full { m } else { n })?;
    let mut turned = Matrix::zeros(m, n)?;
    let q = u.view().subcols(0, n);
    let one = T::from_real(1.0);
    matmul(turned.view_mut(), Accum::Replace, q, small.u.view(), one, Par::Seq);
    u.values[..m * n].copy_from_slice(&turned.values);
    Ok(Svd { u, ..small })
}

/// Of a matrix that is about square.
fn square<T: Field>(a: Matrix<T>, vectors: Vectors) -> Result<Svd<T>, Trouble> {
    let (m, n) = (a.rows, a.columns);
    let (columns, right, compute) = match vectors {
        Vectors::No => (0, 0, ComputeSvdVectors::No),
        Vectors::Reduced => (n, n, ComputeSvdVectors::Thin),
        Vectors::Full => (m, n, ComputeSvdVectors::Full),
    };
    let (mut u, mut v) = (Matrix::zeros(m, columns)?, Matrix::zeros(n, right)?);
    let mut s = vec![T::from_real(0.0); n];
    let mut params: Spec<dense::SvdParams, T> = Default::default();
    params.config.qr_ratio_threshold = f64::INFINITY;
    let mut memory = scratch(dense::svd_scratch::<T>(m, n, compute, compute, Par::Seq, params))?;
    let wanted = vectors != Vectors::No;
    dense::svd(
        a.view(),
        DiagMut::from_slice_mut(&mut s),
        wanted.then(|| u.view_mut()),
        wanted.then(|| v.view_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        params,
    )
    .map_err(|_| Trouble::NoConvergence)?;
    Ok(Svd { u, s: s.iter().map(|s| s.real_part()).collect(), v })
}

/// The Moore-Penrose inverse of a matrix whose entries are known to `precision`.
pub(super) fn pseudo_inverse<T: Field>(a: Matrix<T>, precision: f64) -> Result<Matrix<T>, Trouble> {
    let (m, n) = (a.rows, a.columns);
    let Svd { u, s, mut v } = svd(a, Vectors::Reduced)?;
    let least = 10.0 * m.max(n) as f64 * precision * s.first().copied().unwrap_or(0.0);
    for (j, &s) in s.iter().enumerate() {
        let factor = T::from_real(if s > least { 1.0 / s } else { 0.0 });
        v.column_mut(j).iter_mut().for_each(|x| *x *= factor);
    }
    let mut out = Matrix::zeros(n, m)?;
    let one = T::from_real(1.0);
    matmul(out.view_mut(), Accum::Replace, v.view(), u.view().adjoint(), one, Par::Seq);
    Ok(out)
}
