//! Where values belong among sorted ones, and what is built on it: interpolation and histograms.

pub(crate) mod rules;

use super::{attempt, error, prim};
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::operand::IntoOperand;
use crate::ops::creation::{arange, zeros};
use crate::ops::elementwise::where_;
use lazul_ir::{DType, Prim};

/// On which side of equal elements a value belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Before them.
    #[default]
    Left,
    /// After them.
    Right,
}

impl Array {
    /// The indices (u32) at which `values` would be inserted to keep this array sorted: how many of its
    /// elements are less, or on the right side less or equal. This array ascends along its last axis, as
    /// [`Array::sort`] leaves it (NaN last).
    ///
    /// A vector is searched for values of any shape. Several rows are searched for the values in the same
    /// row: axes before the last must agree. Dtypes are promoted.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1, 2, 2, 4], [4]);
    /// let v = Array::from_slice(&[0, 2, 5], [3]);
    /// assert_eq!(x.searchsorted(&v, Side::Left).to_vec::<u32>()?, [0, 1, 4]);
    /// assert_eq!(x.searchsorted(2, Side::Right).item::<u32>()?, 3);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn searchsorted(&self, values: impl IntoOperand, side: Side) -> Array {
        let values = values.into_operand().into_array_beside("searchsorted", self.0.dtype);
        attempt(|| {
            self.check()?;
            values.check()?;
            let bad = |why| Err(error(ErrorKind::Shape, "searchsorted", why, &[self, &values]));
            let &[ref rows @ .., n] = &self.0.shape[..] else {
                return bad("the sorted array needs at least one axis");
            };
            if n > u32::MAX as usize {
                return bad("the sorted axis is beyond u32");
            }
            let shape = &values.0.shape;
            let (b, m) = match shape[..] {
                _ if rows.is_empty() => (1, shape.size()),
                [ref lead @ .., m] if lead == rows => (rows.iter().product(), m),
                _ => return bad("axes of sorted rows and of values must agree, except the last"),
            };
            let dtype = DType::promote(self.0.dtype, values.0.dtype);
            let inputs = [self.astype(dtype).reshape([b, n]), values.astype(dtype).reshape([b, m])];
            let right = side == Side::Right;
            let found = prim(Prim::SearchSorted { right }, inputs, [b, m].into(), DType::U32);
            Ok(found.reshape(shape))
        })
    }

    /// Values at `self` of the piecewise linear function through the points `(xs, ys)`: `xs` ascends,
    /// both are vectors of one length. Before the first point and after the last the function is constant.
    /// NaN stays NaN. Floats; integers give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (xs, ys) = (arange(3, DType::F32), Array::from_slice(&[0.0f32, 10.0, 40.0], [3]));
    /// let x = Array::from_slice(&[-1.0f32, 0.5, 1.5, 9.0], [4]);
    /// assert_eq!(x.interp(&xs, &ys).to_vec::<f32>()?, [0.0, 5.0, 25.0, 40.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn interp(&self, xs: &Array, ys: &Array) -> Array {
        attempt(|| {
            [self, xs, ys].into_iter().try_for_each(Array::check)?;
            let n = match (&xs.0.shape[..], &ys.0.shape[..]) {
                ([n], [m]) if n == m && *n > 0 => *n,
                _ => {
                    let why = "the points need two vectors of one length, not empty";
                    return Err(error(ErrorKind::Shape, "interp", why, &[xs, ys]));
                }
            };
            let places = DType::promote(self.0.dtype, xs.0.dtype).to_inexact();
            if places == DType::C64 {
                return Err(error(ErrorKind::DType, "interp", "complex has no order", &[self, xs]));
            }
            let (x, xs) = (self.astype(places), xs.astype(places));
            let ys = ys.astype(DType::promote(ys.0.dtype, places));
            if n == 1 {
                // NaN stays, infinities do not.
                return Ok(where_(x.isnan(), &x, ys.broadcast_to(&x.0.shape)));
            }
            let last = n as u32 - 1;
            let right = xs.searchsorted(&x, Side::Right).clip(Some(1), Some(last));
            let left = &right - 1;
            let (x0, x1) = (xs.take(&left, 0), xs.take(&right, 0));
            let (y0, y1) = (ys.take(&left, 0), ys.take(&right, 0));
            let t = (&x - &x0) / (x1 - x0);
            let inside = &y0 + (y1 - &y0) * t;
            let (first, end) = (xs.at_index(0, 0), xs.at_index(0, -1));
            let (low, high) = (ys.at_index(0, 0), ys.at_index(0, -1));
            let out = where_(x.less_equal(first), low, inside);
            Ok(where_(x.greater_equal(end), high, out))
        })
    }

    /// How many elements lie between neighbours of `edges`, an ascending vector: bin `i` holds
    /// `edges[i] <= x < edges[i + 1]`, the last one its upper edge as well. i32 counts, or the sums of
    /// `weights` (of this array's shape, in their dtype). NaN, and what lies outside, does not count.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[0.0f32, 0.5, 1.0, 2.0, 3.0], [5]);
    /// let edges = arange(3, DType::F32);
    /// assert_eq!(x.histogram(&edges, None).to_vec::<i32>()?, [2, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn histogram(&self, edges: &Array, weights: Option<&Array>) -> Array {
        attempt(|| {
            self.check()?;
            edges.check()?;
            let bins = match edges.0.shape[..] {
                [n] if n >= 2 => n - 1,
                _ => {
                    let why = "needs a vector of at least two edges";
                    return Err(error(ErrorKind::Shape, "histogram", why, &[edges]));
                }
            };
            let dtype = DType::promote(self.0.dtype, edges.0.dtype);
            if dtype == DType::C64 {
                let why = "complex has no order";
                return Err(error(ErrorKind::DType, "histogram", why, &[self, edges]));
            }
            let weights = weights_of("histogram", self, weights)?;
            let (x, edges) = (self.reshape([-1]).astype(dtype), edges.astype(dtype));
            // Below the first edge is 0, bin `i` is `i + 1`.
            let bin = edges.searchsorted(&x, Side::Right);
            let bin = where_(x.equal(edges.at_index(0, -1)), bins as u32, bin);
            Ok(zeros([bins + 2], weights.0.dtype).at(bin).add(weights).slice_axis(0, 1, -1))
        })
    }

    /// A histogram over `bins` bins of equal width from `low` to `high`, or from the smallest to the
    /// largest element for `None`: counts (see [`Array::histogram`]) and the `bins + 1` edges. If low and
    /// high are equal the bins span a half on either side.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 2.0, 5.0], [4]);
    /// let (counts, edges) = x.histogram_bins(2, None);
    /// assert_eq!(counts.to_vec::<i32>()?, [3, 1]);
    /// assert_eq!(edges.to_vec::<f32>()?, [1.0, 3.0, 5.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn histogram_bins(&self, bins: usize, range: Option<(f64, f64)>) -> (Array, Array) {
        let edges = attempt(|| {
            self.check()?;
            if bins == 0 {
                let why = "needs at least one bin";
                return Err(error(ErrorKind::Value, "histogram", why, &[self]));
            }
            let dtype = self.0.dtype.to_inexact();
            if dtype == DType::C64 {
                let why = "complex has no order";
                return Err(error(ErrorKind::DType, "histogram", why, &[self]));
            }
            let (low, high) = match range {
                Some((low, high)) if low.is_finite() && high.is_finite() && low <= high => {
                    (Array::scalar(low), Array::scalar(high))
                }
                Some((low, high)) => {
                    let why = format!("{low} to {high} is not a range");
                    return Err(error(ErrorKind::Value, "histogram", why, &[self]));
                }
                None if self.0.shape.size() == 0 => (Array::scalar(0.0), Array::scalar(1.0)),
                None => {
                    let (low, high) = self.minmax(..);
                    (low.astype(DType::F64), high.astype(DType::F64))
                }
            };
            let half = where_(low.equal(&high), 0.5, 0.0);
            let (low, high) = (low - &half, high + half);
            let t = arange(bins + 1, DType::F64) / bins as f64;
            // Blending the ends makes both exact.
            Ok(((t.negative() + 1.0) * low + t * high).astype(dtype))
        });
        (self.histogram(&edges, None), edges)
    }

    /// How often each integer occurs, from 0 to the largest: i32 counts, or the sums of `weights` (of
    /// this array's shape, in their dtype), `min_length` of them at least. Not for negative integers.
    /// Evaluates the array, since its elements tell the length.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1, 3, 1], [3]);
    /// assert_eq!(x.bincount(None, 0).to_vec::<i32>()?, [0, 2, 0, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn bincount(&self, weights: Option<&Array>, min_length: usize) -> Array {
        attempt(|| {
            self.check()?;
            if !self.0.dtype.is_integer() {
                return Err(error(ErrorKind::DType, "bincount", "needs integers", &[self]));
            }
            let weights = weights_of("bincount", self, weights)?;
            let mut length = min_length;
            if self.0.shape.size() > 0 {
                let (low, high) = self.minmax(..);
                crate::eval([&low, &high])?;
                let wide = |x: Array| x.astype(DType::U64).item::<u64>();
                let negative =
                    self.0.dtype.is_signed_integer() && low.astype(DType::I64).item::<i64>()? < 0;
                if negative {
                    let why = "negative integers have no place";
                    return Err(error(ErrorKind::Value, "bincount", why, &[self]));
                }
                let largest = usize::try_from(wide(high)?).unwrap_or(usize::MAX);
                length = length.max(largest.saturating_add(1));
            }
            Ok(zeros([length], weights.0.dtype).at(self.reshape([-1])).add(weights))
        })
    }
}

/// What each element counts: a vector of the weights, or a one.
#[track_caller]
fn weights_of(op: &'static str, x: &Array, weights: Option<&Array>) -> Result<Array> {
    let Some(weights) = weights else { return Ok(Array::scalar(1i32)) };
    weights.check()?;
    if weights.0.shape != x.0.shape {
        let why = "needs a weight for each element";
        return Err(error(ErrorKind::Shape, op, why, &[x, weights]));
    }
    if weights.0.dtype == DType::Bool {
        return Ok(weights.reshape([-1]).astype(DType::I32));
    }
    Ok(weights.reshape([-1]))
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn rows_are_searched_row_by_row() {
        let x = Array::from_slice(&[1, 3, 5, 2, 4, 6], [2, 3]);
        let v = Array::from_slice(&[3, 9, 3, 0], [2, 2]);
        assert_eq!(x.searchsorted(&v, Side::Left).to_vec::<u32>().unwrap(), [1, 3, 1, 0]);
        assert_eq!(x.searchsorted(&v, Side::Right).to_vec::<u32>().unwrap(), [2, 3, 1, 0]);
        for bad in [Array::scalar(1), zeros([2], DType::I32), zeros([3, 2], DType::I32)] {
            assert!(x.searchsorted(&bad, Side::Left).check().is_err());
        }
        assert!(Array::scalar(1).searchsorted(1, Side::Left).check().is_err());
        let none = zeros(0, DType::F32);
        assert_eq!(none.searchsorted(2.5, Side::Left).item::<u32>().unwrap(), 0);
        assert_eq!(x.at_index(0, 0).searchsorted(&none, Side::Left).shape().unwrap(), &[0]);
        // An integer among integers; a float among them makes floats of both.
        assert_eq!(x.at_index(0, 0).searchsorted(3.5, Side::Left).item::<u32>().unwrap(), 2);
    }

    #[test]
    fn searching_has_no_gradient_and_batches() {
        let x = Array::from_slice(&[1.0f32, 3.0, 5.0, 2.0, 4.0, 6.0], [2, 3]);
        let v = Array::from_slice(&[3.0f32, 9.0, 4.0], [3]);
        let find = |x: &Array, v: &Array| x.searchsorted(v, Side::Left);
        let rows = vmap(|x: &Array| find(x, &v))(&x).unwrap();
        assert_eq!(rows.to_vec::<u32>().unwrap(), [1, 3, 2, 1, 3, 1]);
        let each = vmap(|v: &Array| find(&x.at_index(0, 0), v))(&v).unwrap();
        assert_eq!(each.to_vec::<u32>().unwrap(), [1, 3, 2]);
        let both = vmap(|(x, v): &(Array, Array)| find(x, v));
        let both = both(&(x.clone(), v.slice_axis(0, 0, 2))).unwrap();
        assert_eq!(both.to_vec::<u32>().unwrap(), [1, 3]);
        let loss = |v: &Array| (find(&x.at_index(0, 0), v).astype(DType::F32) * v).sum(..);
        assert_eq!(grad(loss)(&v).unwrap().to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0]);
        let (_, t) = jvp(loss, &v, &v.ones_like()).unwrap();
        assert_eq!(t.item::<f32>().unwrap(), 6.0);
    }

    #[test]
    fn extreme_histograms() {
        let nan = f32::NAN;
        let x = Array::from_slice(&[nan, -1.0, 0.0, 2.0, f32::INFINITY], [5]);
        let (counts, edges) = x.histogram_bins(2, Some((0.0, 2.0)));
        assert_eq!(counts.to_vec::<i32>().unwrap(), [1, 1]);
        assert_eq!(edges.to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0]);
        let (counts, _) = full(3, 2.0).histogram_bins(4, None);
        assert_eq!(counts.to_vec::<i32>().unwrap(), [0, 0, 3, 0]);
        let (counts, edges) = zeros(0, DType::F32).histogram_bins(1, None);
        assert_eq!(counts.to_vec::<i32>().unwrap(), [0]);
        assert_eq!(edges.to_vec::<f32>().unwrap(), [0.0, 1.0]);
        assert!(x.histogram_bins(0, None).1.check().is_err());
        assert!(x.histogram_bins(1, Some((1.0, 0.0))).0.check().is_err());
        assert!(x.histogram_bins(1, Some((0.0, f64::NAN))).0.check().is_err());
        assert!(x.histogram(&zeros(1, DType::F32), None).check().is_err());
        assert!(x.histogram(&arange(3, DType::F32), Some(&zeros(4, DType::F32))).check().is_err());
    }

    #[test]
    fn counts_of_integers() {
        assert_eq!(zeros(0, DType::I32).bincount(None, 0).shape().unwrap(), &[0]);
        assert_eq!(zeros(2, DType::U8).bincount(None, 3).to_vec::<i32>().unwrap(), [2, 0, 0]);
        let w = Array::from_slice(&[0.5f32, 0.25], [2]);
        let x = Array::from_slice(&[1i64, 1], [2]);
        assert_eq!(x.bincount(Some(&w), 0).to_vec::<f32>().unwrap(), [0.0, 0.75]);
        let largest = Array::from_slice(&[u64::MAX], [1]);
        for bad in [Array::from_slice(&[-1], [1]), zeros(1, DType::F32), largest] {
            assert!(bad.bincount(None, 0).check().is_err());
        }
        assert!(x.bincount(Some(&zeros(3, DType::F32)), 0).check().is_err());
    }

    #[test]
    fn interpolation_of_few_points() {
        let x = Array::from_slice(&[f32::NAN, f32::INFINITY, 1.0], [3]);
        let one = x.interp(&full(1, 2.0), &full(1, 7.0)).to_vec::<f32>().unwrap();
        assert!(one[0].is_nan() && one[1..] == [7.0, 7.0]);
        let two = x.interp(&arange(2, DType::F32), &full(2, 7.0)).to_vec::<f32>().unwrap();
        assert!(two[0].is_nan() && two[1..] == [7.0, 7.0]);
        assert!(x.interp(&zeros(0, DType::F32), &zeros(0, DType::F32)).check().is_err());
        assert!(x.interp(&zeros(2, DType::F32), &zeros(3, DType::F32)).check().is_err());
    }
}
