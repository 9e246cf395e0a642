//! Norms of vectors and matrices.

use super::*;
use crate::ops::elementwise::where_;
use crate::ops::reduce::wide;

/// Which norm.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Order {
    /// Of matrices: the root of the sum of squares.
    Frobenius,
    /// Of matrices: the sum of singular values.
    Nuclear,
    /// The largest magnitude of a vector; of a matrix the largest sum of magnitudes in a row.
    Inf,
    /// The smallest magnitude of a vector; of a matrix the smallest sum of magnitudes in a row.
    NegInf,
    /// Of vectors `(Σ|x|^p)^(1/p)`, and for 0 the number of entries that are not zero. Of matrices 1 and
    /// -1, the largest and the smallest sum of magnitudes in a column, and 2 and -2, the largest and the
    /// smallest singular value.
    P(f64),
}

/// How [`norm`] is taken.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Norm {
    /// Which norm; `None` is the root of the sum of squares over whatever axes there are.
    pub order: Option<Order>,
    /// One axis for norms of vectors, two for norms of matrices (rows, then columns), negative from the
    /// end. `None` is all of them, at most two if an order is given.
    pub axes: Option<Vec<i64>>,
    /// Whether the axes stay with length 1.
    pub keepdims: bool,
}

/// The norm of vectors or matrices along axes. f16, bf16, f32 and f64 stay, computed in f32 at least;
/// integers and complex64 give f32.
///
/// The gradient of the root of a sum of squares is taken as 0 where everything is 0.
///
/// ```
/// use lazul_core::prelude::*;
/// use linalg::{Norm, Order};
/// let x = Array::from_slice(&[3.0f32, 4.0, 0.0, -5.0], [2, 2]);
/// let rows = Norm { axes: Some(vec![1]), ..Default::default() };
/// assert_eq!(linalg::norm(&x, &rows).to_vec::<f32>()?, [5.0, 5.0]);
/// let largest_row = Norm { order: Some(Order::Inf), ..Default::default() };
/// assert_eq!(linalg::norm(&x, &largest_row).item::<f32>()?, 7.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn norm(x: &Array, how: &Norm) -> Array {
    attempt(|| {
        x.check()?;
        let rank = x.0.shape.len();
        let axes = match &how.axes {
            Some(axes) => {
                axes.iter().map(|&a| axis_of("norm", a, x)).collect::<Result<Vec<_>>>()?
            }
            None => (0..rank).collect(),
        };
        if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
            return Err(error(ErrorKind::Axis, "norm", "an axis is named twice", &[x]));
        }
        let kind = x.0.dtype.to_inexact();
        let y = x.astype(wide(kind));
        let out = match (how.order, &axes[..]) {
            (None, _) => euclidean(&y, &axes),
            (Some(order), &[axis]) => vector(&y, order, axis as i64)?,
            (Some(order), &[rows, columns]) => of_matrix(&y, order, rows, columns)?,
            (Some(_), _) => {
                let why = format!("an order is for one axis or two, not {}", axes.len());
                return Err(error(ErrorKind::Axis, "norm", why, &[x]));
            }
        };
        let out = out.astype(real_of(kind));
        if how.keepdims || axes.is_empty() {
            return Ok(out);
        }
        Ok(out.squeeze(axes.iter().map(|&a| a as i64).collect::<Vec<_>>()))
    })
}

/// The square root of a sum of squares over axes, which stay.
#[track_caller]
fn euclidean(x: &Array, axes: &[usize]) -> Array {
    let squares = match x.0.dtype {
        DType::C64 => x.real().square() + x.imag().square(),
        _ => x.square(),
    };
    let sum = if axes.is_empty() { squares } else { squares.sum_keepdims(axes.to_vec()) };
    root(&sum, |s| s.sqrt())
}

/// A root that has the derivative 0 at 0.
#[track_caller]
fn root(sum: &Array, of: impl Fn(&Array) -> Array) -> Array {
    let zero = sum.equal(0.0);
    where_(&zero, sum, of(&where_(&zero, 1.0, sum)))
}

fn vector(x: &Array, order: Order, axis: i64) -> Result<Array> {
    let size = || x.abs();
    Ok(match order {
        Order::Inf => size().max_keepdims(axis),
        Order::NegInf => size().min_keepdims(axis),
        Order::P(p) if p == f64::INFINITY => size().max_keepdims(axis),
        Order::P(p) if p == f64::NEG_INFINITY => size().min_keepdims(axis),
        Order::P(0.0) => x.not_equal(0.0).astype(real_of(x.0.dtype)).sum_keepdims(axis),
        Order::P(1.0) => size().sum_keepdims(axis),
        Order::P(2.0) => euclidean(x, &[axis as usize]),
        Order::P(p) if p > 0.0 => root(&size().power(p).sum_keepdims(axis), |s| s.power(1.0 / p)),
        Order::P(p) if p < 0.0 => size().power(p).sum_keepdims(axis).power(1.0 / p),
        other => return Err(no_order(x, other, "vectors")),
    })
}

fn of_matrix(x: &Array, order: Order, rows: usize, columns: usize) -> Result<Array> {
    let (r, c) = (rows as i64, columns as i64);
    // Singular values, behind the axes that the matrix had.
    let values = || {
        let last: Vec<usize> = (0..x.0.shape.len())
            .filter(|a| *a != rows && *a != columns)
            .chain([rows, columns])
            .collect();
        svdvals(&x.transpose(last))
    };
    let axes = [r.min(c), r.max(c)];
    Ok(match order {
        Order::Frobenius => euclidean(x, &[rows, columns]),
        Order::Nuclear => values().sum(-1).expand_dims(axes),
        Order::Inf => x.abs().sum_keepdims(c).max_keepdims(r),
        Order::NegInf => x.abs().sum_keepdims(c).min_keepdims(r),
        Order::P(p) if p == f64::INFINITY => x.abs().sum_keepdims(c).max_keepdims(r),
        Order::P(p) if p == f64::NEG_INFINITY => x.abs().sum_keepdims(c).min_keepdims(r),
        Order::P(1.0) => x.abs().sum_keepdims(r).max_keepdims(c),
        Order::P(-1.0) => x.abs().sum_keepdims(r).min_keepdims(c),
        Order::P(p) if p.abs() == 2.0 => {
            if x.0.shape[rows].min(x.0.shape[columns]) == 0 {
                let why = "an empty matrix has no largest singular value";
                return Err(error(ErrorKind::Shape, "norm", why, &[x]));
            }
            values().at_index(-1, if p > 0.0 { 0 } else { -1 }).expand_dims(axes)
        }
        other => return Err(no_order(x, other, "matrices")),
    })
}

fn no_order(x: &Array, order: Order, of: &str) -> Error {
    error(ErrorKind::Value, "norm", format!("{order:?} is no norm of {of}"), &[x])
}
