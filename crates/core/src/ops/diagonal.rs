//! Diagonals of matrices: read, summed, and made into matrices.

use super::{attempt, axis_of, error};
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::ops::creation::zeros;
use crate::ops::index::Step;

/// First row and column of diagonal `offset` of an `n × m` matrix, and its length.
fn extent(n: usize, m: usize, offset: i64) -> (usize, usize, usize) {
    let row = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    let (row, column) = if offset < 0 { (row, 0) } else { (0, row) };
    (row, column, n.saturating_sub(row).min(m.saturating_sub(column)))
}

impl Array {
    /// Diagonal `offset` of the last two axes, as a last axis: 0 is the main one, positive ones lie
    /// above. A view.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// assert_eq!(x.diagonal(1).to_vec::<i32>()?, [1, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn diagonal(&self, offset: i64) -> Array {
        attempt(|| {
            self.check()?;
            let &[.., n, m] = &self.0.shape[..] else {
                return Err(error(ErrorKind::Shape, "diagonal", "needs two dimensions", &[self]));
            };
            let (row, column, len) = extent(n, m, offset);
            // Elements of the diagonal are m + 1 apart in the flattened matrix.
            let flat = self.flatten(-2, -1);
            if len == 0 {
                return Ok(flat.slice_axis(-1, 0, 0));
            }
            let from = row * m + column;
            let to = (from + (len - 1) * (m + 1) + 1) as i64;
            Ok(flat.slice_step(-1, from as i64, to, m as i64 + 1))
        })
    }

    /// Diagonal `offset` of the matrices in two axes, as a last axis: rows lie along `axis1`, columns
    /// along `axis2`. A view.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 3, 4], DType::F32);
    /// assert_eq!(x.diagonal_of(0, 0, 2).shape()?, &[3, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn diagonal_of(&self, offset: i64, axis1: i64, axis2: i64) -> Array {
        attempt(|| Ok(self.matrices("diagonal", axis1, axis2)?.diagonal(offset)))
    }

    /// Sum of diagonal `offset` of the last two axes, which go away. Dtypes as [`Array::sum`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(4, DType::I32).reshape([2, 2]);
    /// assert_eq!(x.trace(0).item::<i32>()?, 3);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn trace(&self, offset: i64) -> Array {
        self.diagonal(offset).sum(-1)
    }

    /// Sum of diagonal `offset` of the matrices in two axes; see [`Array::diagonal_of`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(ones([2, 3, 4], DType::F32).trace_of(0, 0, 1).to_vec::<f32>()?, [2.0; 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn trace_of(&self, offset: i64, axis1: i64, axis2: i64) -> Array {
        self.diagonal_of(offset, axis1, axis2).sum(-1)
    }

    /// The array with two axes moved to the end.
    #[track_caller]
    fn matrices(&self, op: &'static str, axis1: i64, axis2: i64) -> Result<Array> {
        self.check()?;
        let rank = self.0.shape.len();
        let (a, b) = (axis_of(op, axis1, self)?, axis_of(op, axis2, self)?);
        if a == b {
            return Err(error(ErrorKind::Axis, op, "the axes must differ", &[self]));
        }
        let order = (0..rank).filter(|i| ![a, b].contains(i)).chain([a, b]);
        Ok(self.transpose(order.collect::<Vec<_>>()))
    }

    /// A vector as diagonal `k` of a square matrix of zeros, or diagonal `k` of a matrix.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1, 2], [2]);
    /// assert_eq!(x.diag(1).to_vec::<i32>()?, [0, 1, 0, 0, 0, 2, 0, 0, 0]);
    /// assert_eq!(x.diag(0).diag(0).to_vec::<i32>()?, [1, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn diag(&self, k: i64) -> Array {
        attempt(|| {
            self.check()?;
            let n = match self.0.shape[..] {
                [n] => n,
                [_, _] => return Ok(self.diagonal(k)),
                _ => {
                    let why = "needs a vector or a matrix";
                    return Err(error(ErrorKind::Shape, "diag", why, &[self]));
                }
            };
            let side = usize::try_from(k.unsigned_abs()).unwrap_or(usize::MAX).saturating_add(n);
            let matrix = zeros([side, side], self.0.dtype);
            matrix.check()?;
            if n == 0 {
                return Ok(matrix);
            }
            let (row, column, _) = extent(side, side, k);
            let from = row * side + column;
            let place = (from..from + (n - 1) * (side + 1) + 1).step(side as i64 + 1);
            Ok(matrix.reshape([-1]).at(place).set(self).reshape([side, side]))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn diagonals_outside_are_empty() {
        let x = arange(6, DType::I32).reshape([2, 3]);
        for k in [3, -2, i64::MAX, i64::MIN] {
            assert_eq!(x.diagonal(k).shape().unwrap(), &[0], "{k}");
            assert_eq!(x.trace(k).item::<i32>().unwrap(), 0, "{k}");
        }
        assert_eq!(x.diagonal(2).to_vec::<i32>().unwrap(), [2]);
        assert_eq!(zeros([0, 3], DType::F32).diagonal(0).shape().unwrap(), &[0]);
        assert_eq!(zeros([4, 3, 0], DType::F32).diagonal(0).shape().unwrap(), &[4, 0]);
    }

    #[test]
    fn what_has_no_diagonal_is_refused() {
        let x = zeros([2, 3], DType::F32);
        let cube = zeros([2, 2, 2], DType::F32);
        let bad = [
            x.diagonal_of(0, 1, -1),
            x.diagonal_of(0, 0, 2),
            zeros(3, DType::F32).diagonal(0),
            cube.diag(0),
            zeros((), DType::F32).diag(0),
            zeros(3, DType::F32).diag(i64::MAX),
        ];
        for (i, x) in bad.iter().enumerate() {
            assert!(x.check().is_err(), "{i}");
        }
        assert_eq!(zeros(0, DType::F32).diag(2).shape().unwrap(), &[2, 2]);
    }
}
