//! Eigenvalues and eigenvectors.

use super::field::{Field, subtract};
use super::matrix::Matrix;
use super::{Trouble, lu, scratch};
use faer::Par;
use faer::diag::DiagMut;
use faer::dyn_stack::MemStack;
use faer::linalg::evd::{self, ComputeEigenvectors};
use num_complex::Complex64;

/// Of a Hermitian matrix, of which the lower triangle is read: values in ascending order.
pub(super) fn hermitian<T: Field>(
    mut a: Matrix<T>,
    vectors: bool,
) -> Result<(Vec<f64>, Option<Matrix<T>>), Trouble> {
    let n = a.rows;
    let unit = a.normalise();
    let mut w = vec![T::from_real(0.0); n];
    let mut v = Matrix::zeros(n, if vectors { n } else { 0 })?;
    let compute = if vectors { ComputeEigenvectors::Yes } else { ComputeEigenvectors::No };
    let size = evd::self_adjoint_evd_scratch::<T>(n, compute, Par::Seq, Default::default());
    let mut memory = scratch(size)?;
    evd::self_adjoint_evd(
        a.view(),
        DiagMut::from_slice_mut(&mut w),
        vectors.then(|| v.view_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|_| Trouble::NoConvergence)?;
    Ok((w.iter().map(|w| w.real_part() * unit).collect(), vectors.then_some(v)))
}

/// Of any square matrix: values in no order, vectors of length 1.
pub(super) fn general<T: Field>(
    mut a: Matrix<T>,
    vectors: bool,
) -> Result<(Vec<Complex64>, Option<Matrix<Complex64>>), Trouble> {
    if a.rows == 0 {
        return Ok((vec![], vectors.then(|| Matrix::zeros(0, 0)).transpose()?));
    }
    let unit = a.normalise();
    let (mut w, mut v) = T::eigen(&a, vectors)?;
    if w.iter().any(|w| !w.finite()) {
        return Err(Trouble::NoConvergence);
    }
    if let Some(v) = &mut v {
        for (j, &w) in w.iter().enumerate() {
            if !unify(v.column_mut(j)) {
                let better = iterate(&a, w)?;
                v.column_mut(j).copy_from_slice(&better);
            }
        }
    }
    w.iter_mut().for_each(|w| *w *= unit);
    Ok((w, v))
}

/// Gives a vector length 1; false if it has none to give.
fn unify(x: &mut [Complex64]) -> bool {
    // First by the largest entry: squares of the others may overflow.
    for squares in [false, true] {
        let size = if squares {
            x.iter().map(|x| x.norm_sqr()).sum::<f64>().sqrt()
        } else {
            x.iter().map(|x| x.re.abs().max(x.im.abs())).fold(0.0, f64::max)
        };
        if !(size.is_finite() && size > 0.0) || x.iter().any(|x| !x.finite()) {
            return false;
        }
        x.iter_mut().for_each(|x| *x = Complex64::new(x.re / size, x.im / size));
    }
    true
}

/// The eigenvector of a known eigenvalue by inverse iteration. Where many eigenvalues have one vector,
/// back substitution as it is commonly done grows past all numbers, and this does not.
fn iterate<T: Field>(a: &Matrix<T>, w: Complex64) -> Result<Vec<Complex64>, Trouble> {
    let n = a.rows;
    let mut shifted = Matrix::<Complex64>::zeros(n, n)?;
    for j in 0..n {
        for i in 0..n {
            let x = a.at(i, j);
            let x = Complex64::new(x.real_part(), x.imaginary_part());
            shifted.column_mut(j)[i] = if i == j { x - w } else { x };
        }
    }
    let size = a.values.iter().map(|x| x.magnitude()).fold(f64::MIN_POSITIVE, f64::max);
    let pivots = lu::factor(&mut shifted);
    let mut x = Matrix::<Complex64>::zeros(n, 1)?;
    x.values.fill(Complex64::new(1.0, 0.0));
    for _ in 0..3 {
        lu::forward(&shifted, &pivots, &mut x);
        back(&shifted, f64::EPSILON * size, &mut x.values);
        if !unify(&mut x.values) {
            return Err(Trouble::NoConvergence);
        }
    }
    Ok(x.values)
}

/// Replaces `x` by a multiple of the solution of a system with the upper triangle of `u`, on whose
/// diagonal nothing smaller than `least` counts.
fn back(u: &Matrix<Complex64>, least: f64, x: &mut [Complex64]) {
    for i in (0..x.len()).rev() {
        let pivot = u.at(i, i);
        x[i] /= if pivot.norm() < least { Complex64::new(least, 0.0) } else { pivot };
        let size = x[i].norm();
        if size > 1e100 {
            x.iter_mut().for_each(|x| *x /= size);
        }
        let (above, rest) = x.split_at_mut(i);
        subtract(above, rest[0], &u.column(i)[..i]);
    }
}
