//! Orthogonal factorization by reflections, in panels: the reflections of a panel are applied to the
//! rest at once, as `1 - V·T·Vᴴ` (Schreiber and Van Loan, 1989).

use super::Trouble;
use super::field::{Field, dot, subtract};
use super::matrix::Matrix;
use faer::linalg::matmul::matmul;
use faer::reborrow::*;
use faer::{Accum, MatMut, Par};

/// Columns of a panel.
const PANEL: usize = 32;

/// A factorization: `R` on and above the diagonal, below it the vectors of the reflections, whose first
/// entries are ones; and the triangle `T` of each panel.
pub(super) struct Qr<T> {
    a: Matrix<T>,
    triangles: Vec<Matrix<T>>,
}

pub(super) fn factor<T: Field>(mut a: Matrix<T>) -> Result<Qr<T>, Trouble> {
    let (m, n) = (a.rows, a.columns);
    let k = m.min(n);
    let mut triangles = Vec::new();
    for start in (0..k).step_by(PANEL) {
        let width = PANEL.min(k - start);
        let factors = reflect_panel(&mut a, start, width);
        let v = vectors(&a, start, width)?;
        let t = triangle(&v, &factors)?;
        if start + width < n {
            let rest =
                a.view_mut().submatrix_mut(start, start + width, m - start, n - start - width);
            apply(&v, &t, true, rest)?;
        }
        triangles.push(t);
    }
    Ok(Qr { a, triangles })
}

impl<T: Field> Qr<T> {
    /// Entry of `R`, which has zeros below its diagonal and in rows past the last.
    pub(super) fn r(&self, i: usize, j: usize) -> T {
        if i <= j { self.a.at(i, j) } else { T::from_real(0.0) }
    }

    /// The first columns of `Q`, at least `min(m, n)` of them.
    pub(super) fn q(&self, columns: usize) -> Result<Matrix<T>, Trouble> {
        let m = self.a.rows;
        let mut q = Matrix::identity(m, columns)?;
        let k = m.min(self.a.columns);
        for (panel, t) in self.triangles.iter().enumerate().rev() {
            let start = panel * PANEL;
            let v = vectors(&self.a, start, PANEL.min(k - start))?;
            // Columns before the panel's are still those of the identity above its rows.
            let part = q.view_mut().submatrix_mut(start, start, m - start, columns - start);
            apply(&v, t, false, part)?;
        }
        Ok(q)
    }
}

/// Makes the columns of a panel upper triangular; gives the factor `τ` of each reflection
/// `1 - τ·v·vᴴ`, the adjoint of which was applied.
fn reflect_panel<T: Field>(a: &mut Matrix<T>, start: usize, width: usize) -> Vec<T> {
    let m = a.rows;
    let mut factors = Vec::with_capacity(width);
    for j in start..start + width {
        let (done, rest) = a.values.split_at_mut((j + 1) * m);
        let column = &mut done[j * m + j..];
        let tau = reflection(column);
        factors.push(tau);
        let v = &column[1..];
        for other in rest.chunks_mut(m).take(start + width - j - 1) {
            let (head, tail) = other[j..].split_at_mut(1);
            let along = (head[0] + dot(v, tail)) * tau.conjugate();
            head[0] -= along;
            subtract(tail, along, v);
        }
    }
    factors
}

/// Replaces a vector by what its reflection onto the first axis leaves there, and below it the
/// reflection's vector; gives `τ`.
fn reflection<T: Field>(x: &mut [T]) -> T {
    let tail = dot(&x[1..], &x[1..]).real_part().sqrt();
    let first = x[0];
    if tail == 0.0 && first.imaginary_part() == 0.0 {
        return T::from_real(0.0);
    }
    let length = first.magnitude().hypot(tail);
    let beta = T::from_real(if first.real_part() > 0.0 { -length } else { length });
    let divisor = first - beta;
    x[1..].iter_mut().for_each(|x| *x /= divisor);
    x[0] = beta;
    (beta - first) / beta
}

/// The reflections' vectors of a panel as a matrix, ones and zeros written out.
fn vectors<T: Field>(a: &Matrix<T>, start: usize, width: usize) -> Result<Matrix<T>, Trouble> {
    let mut v = Matrix::identity(a.rows - start, width)?;
    for j in 0..width {
        v.column_mut(j)[j + 1..].copy_from_slice(&a.column(start + j)[start + j + 1..]);
    }
    Ok(v)
}

/// The upper triangular `T` with `1 - V·T·Vᴴ` the product of the reflections in order.
fn triangle<T: Field>(v: &Matrix<T>, factors: &[T]) -> Result<Matrix<T>, Trouble> {
    let n = factors.len();
    let mut t = Matrix::zeros(n, n)?;
    for j in 0..n {
        let along: Vec<T> = (0..j).map(|i| dot(&v.column(i)[j..], &v.column(j)[j..])).collect();
        for i in 0..j {
            let mut sum = T::from_real(0.0);
            for l in i..j {
                sum += t.at(i, l) * along[l];
            }
            t.column_mut(j)[i] = -factors[j] * sum;
        }
        t.column_mut(j)[j] = factors[j];
    }
    Ok(t)
}

/// `c = (1 - V·T·Vᴴ)·c`, or with the adjoint of the bracket.
fn apply<T: Field>(
    v: &Matrix<T>,
    t: &Matrix<T>,
    adjoint: bool,
    c: MatMut<'_, T>,
) -> Result<(), Trouble> {
    let (one, width, columns) = (T::from_real(1.0), v.columns, c.ncols());
    let (mut along, mut turned) = (Matrix::zeros(width, columns)?, Matrix::zeros(width, columns)?);
    let (v, mut c) = (v.view(), c);
    matmul(along.view_mut(), Accum::Replace, v.adjoint(), c.rb(), one, Par::Seq);
    if adjoint {
        let t = t.view().adjoint();
        matmul(turned.view_mut(), Accum::Replace, t, along.view(), one, Par::Seq);
    } else {
        matmul(turned.view_mut(), Accum::Replace, t.view(), along.view(), one, Par::Seq);
    }
    matmul(c.rb_mut(), Accum::Add, v, turned.view(), -one, Par::Seq);
    Ok(())
}
