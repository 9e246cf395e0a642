//! A matrix in memory of its own, column after column.

use super::Trouble;
use super::field::Field;
use faer::{MatMut, MatRef};

/// Column-major entries.
pub(super) struct Matrix<T> {
    pub(super) values: Vec<T>,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<T: Field> Matrix<T> {
    pub(super) fn zeros(rows: usize, columns: usize) -> Result<Matrix<T>, Trouble> {
        let size = rows.checked_mul(columns).ok_or(Trouble::Memory)?;
        let mut values = Vec::new();
        values.try_reserve_exact(size).map_err(|_| Trouble::Memory)?;
        values.resize(size, T::from_real(0.0));
        Ok(Matrix { values, rows, columns })
    }

    /// Ones on the diagonal.
    pub(super) fn identity(rows: usize, columns: usize) -> Result<Matrix<T>, Trouble> {
        let mut out = Matrix::zeros(rows, columns)?;
        for i in 0..rows.min(columns) {
            out.values[i * rows + i] = T::from_real(1.0);
        }
        Ok(out)
    }

    /// The conjugate transpose.
    pub(super) fn adjoint(&self) -> Result<Matrix<T>, Trouble> {
        let mut out = Matrix::zeros(self.columns, self.rows)?;
        for j in 0..self.rows {
            for (i, to) in out.column_mut(j).iter_mut().enumerate() {
                *to = self.at(j, i).conjugate();
            }
        }
        Ok(out)
    }

    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> T {
        self.values[j * self.rows + i]
    }

    pub(super) fn column(&self, j: usize) -> &[T] {
        &self.values[j * self.rows..(j + 1) * self.rows]
    }

    pub(super) fn column_mut(&mut self, j: usize) -> &mut [T] {
        &mut self.values[j * self.rows..(j + 1) * self.rows]
    }

    pub(super) fn view(&self) -> MatRef<'_, T> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.columns)
    }

    pub(super) fn view_mut(&mut self) -> MatMut<'_, T> {
        MatMut::from_column_major_slice_mut(&mut self.values, self.rows, self.columns)
    }

    /// The first zero on the diagonal.
    pub(super) fn zero_on_diagonal(&self) -> Option<usize> {
        (0..self.rows.min(self.columns)).find(|&i| self.at(i, i) == T::from_real(0.0))
    }

    /// Divides very large or very small entries by a power of two, which is returned, so that squares of
    /// them neither overflow nor vanish.
    pub(super) fn normalise(&mut self) -> f64 {
        let largest = self.values.iter().map(|x| x.magnitude()).fold(0.0, f64::max);
        if largest == 0.0 || (1e-100..1e100).contains(&largest) {
            return 1.0;
        }
        // In halves: the reciprocal of the least numbers is too large for one.
        let exponent = largest.log2().floor().clamp(-1022.0, 1022.0) as i32;
        let unit = 2f64.powi(exponent);
        for half in [exponent / 2, exponent - exponent / 2] {
            let factor = T::from_real(2f64.powi(-half));
            self.values.iter_mut().for_each(|x| *x *= factor);
        }
        unit
    }
}
