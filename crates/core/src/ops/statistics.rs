//! Order statistics and moments beyond mean and variance: quantiles, covariance.

use super::reduce::{finish, reduced, resolve, wide};
use super::{attempt, error};
use crate::error::{ErrorKind, Result};
use crate::ints::{IntoAxes, Ints};
use crate::node::Array;
use crate::operand::{IntoOperand, Operand, Weak};
use crate::ops::elementwise::where_;
use lazul_ir::{DType, Shape};

/// What a quantile is that falls between two elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// On the line between them.
    #[default]
    Linear,
    /// The lower one.
    Lower,
    /// The higher one.
    Higher,
    /// Their mean.
    Midpoint,
    /// The nearer one; the one of even place in order where both are as near.
    Nearest,
}

/// A quantile asked for: one, or an array of them.
fn probability(op: &'static str, q: Operand, whole: f64) -> Result<Array> {
    let q = match q {
        Operand::Weak(w @ (Weak::Int(_) | Weak::Float(_))) => {
            let value = match w {
                Weak::Int(i) => i as f64,
                Weak::Float(f) => f,
                _ => f64::NAN,
            } / whole;
            if !(0.0..=1.0).contains(&value) {
                let why = format!("{} does not lie in 0 to {whole}", value * whole);
                return Err(crate::Error::new(ErrorKind::Value, op, why));
            }
            return Ok(Array::scalar(value));
        }
        other => other.into_array(op),
    };
    q.check()?;
    if matches!(q.0.dtype, DType::Bool | DType::C64) {
        return Err(error(ErrorKind::DType, op, "quantiles are of real numbers", &[&q]));
    }
    Ok(q.astype(DType::F64) / whole)
}

impl Array {
    /// The value below which a part `q` of the elements lies, over axes (`..` for all): `q` in 0 to 1 is
    /// a number, or an array whose axes then come first. Integers give f32. NaN if any element is.
    ///
    /// A number `q` outside of 0 to 1 is a wrong call; one in an array is an error of the evaluation.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[4.0f32, 1.0, 3.0, 2.0], [4]);
    /// assert_eq!(x.quantile(0.5, .., Interpolation::Linear).item::<f32>()?, 2.5);
    /// let q = Array::from_slice(&[0.0f32, 1.0], [2]);
    /// assert_eq!(x.quantile(&q, 0, Interpolation::Lower).to_vec::<f32>()?, [1.0, 4.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn quantile(&self, q: impl IntoOperand, axes: impl IntoAxes, how: Interpolation) -> Array {
        self.order_statistic("quantile", q.into_operand(), 1.0, axes.into_axes(), how, false)
    }

    /// As [`Array::quantile`]; reduced axes stay with length 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 3], DType::F32);
    /// assert_eq!(x.quantile_keepdims(0.5, 1, Interpolation::Linear).shape()?, &[2, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn quantile_keepdims(
        &self,
        q: impl IntoOperand,
        axes: impl IntoAxes,
        how: Interpolation,
    ) -> Array {
        self.order_statistic("quantile", q.into_operand(), 1.0, axes.into_axes(), how, true)
    }

    /// As [`Array::quantile`], with `q` in 0 to 100.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(5, DType::F32);
    /// assert_eq!(x.percentile(25, .., Interpolation::Linear).item::<f32>()?, 1.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn percentile(
        &self,
        q: impl IntoOperand,
        axes: impl IntoAxes,
        how: Interpolation,
    ) -> Array {
        self.order_statistic("percentile", q.into_operand(), 100.0, axes.into_axes(), how, false)
    }

    /// As [`Array::percentile`]; reduced axes stay with length 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 3], DType::F32);
    /// assert_eq!(x.percentile_keepdims(50, 0, Interpolation::Linear).shape()?, &[1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn percentile_keepdims(
        &self,
        q: impl IntoOperand,
        axes: impl IntoAxes,
        how: Interpolation,
    ) -> Array {
        self.order_statistic("percentile", q.into_operand(), 100.0, axes.into_axes(), how, true)
    }

    #[track_caller]
    fn order_statistic(
        &self,
        op: &'static str,
        q: Operand,
        whole: f64,
        axes: Option<Ints>,
        how: Interpolation,
        keepdims: bool,
    ) -> Array {
        attempt(|| {
            self.check()?;
            let axes = resolve(op, &axes, self)?;
            let dtype = self.0.dtype.to_inexact();
            if dtype == DType::C64 {
                return Err(error(ErrorKind::DType, op, "complex has no order", &[self]));
            }
            let q = probability(op, q, whole)?;
            let (flat, _) = self.astype(dtype).axes_last(&axes);
            let n = flat.dim(-1)?;
            if n == 0 || n > u32::MAX as usize {
                let why = "there are no elements, or more than u32 counts";
                return Err(error(ErrorKind::Shape, op, why, &[self]));
            }
            let last = flat.0.shape.len() as i64 - 1;
            let sorted = flat.sort(last);
            // Places of a part outside of 0 to 1 lie outside of the axis.
            let valid = q.greater_equal(0.0).logical_and(q.less_equal(1.0));
            let place = where_(&valid, &q * (n - 1) as f64, n as f64);
            let (low, high) = (place.floor(), place.ceil());
            let at = |place: &Array| {
                let taken = sorted.take(place.astype(DType::I64), last);
                // The axes of `q` come first.
                let (k, rank) = (q.0.shape.len(), taken.0.shape.len());
                taken.transpose((rank - k..rank).chain(0..rank - k).collect::<Vec<_>>())
            };
            let wide = wide(dtype);
            let out = match how {
                Interpolation::Lower => at(&low),
                Interpolation::Higher => at(&high),
                Interpolation::Nearest => at(&place.round(0)),
                Interpolation::Midpoint => {
                    let (a, b) = (at(&low).astype(wide), at(&high).astype(wide));
                    ((a + b) * 0.5).astype(dtype)
                }
                Interpolation::Linear => {
                    let (a, b) = (at(&low).astype(wide), at(&high).astype(wide));
                    // Infinities beside themselves have no difference.
                    let step = where_(a.equal(&b), 0.0, &b - &a);
                    let shape: Shape =
                        q.0.shape.iter().copied().chain((0..last).map(|_| 1)).collect();
                    let t = (&place - &low).reshape(&shape).astype(wide);
                    (where_(t.equal(0.0), &a, &a + step * &t)).astype(dtype)
                }
            };
            // NaN sorts last, so one look there tells.
            let end = sorted.at_index(last, -1);
            let out = where_(end.isnan(), &end, out);
            let kept = reduced(&self.0.shape, &axes);
            let shape: Shape = q.0.shape.iter().chain(kept.iter()).copied().collect();
            let axes: Vec<usize> = axes.iter().map(|a| a + q.0.shape.len()).collect();
            Ok(finish(out.reshape(&shape), &axes, keepdims))
        })
    }

    /// Covariances between the rows of a matrix (a vector is one row), each row a variable and each
    /// column an observation: `(rows, rows)`, divided by the number of observations less `ddof`. Integers
    /// give f32; of complex rows the second is conjugated.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 6.0, 4.0, 2.0], [2, 3]);
    /// assert_eq!(x.cov(1).to_vec::<f32>()?, [1.0, -2.0, -2.0, 4.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn cov(&self, ddof: usize) -> Array {
        attempt(|| {
            self.check()?;
            if !(1..=2).contains(&self.0.shape.len()) {
                let why = "needs a matrix with variables as rows";
                return Err(error(ErrorKind::Shape, "cov", why, &[self]));
            }
            let dtype = self.0.dtype.to_inexact();
            let x = self.atleast_2d().astype(wide(dtype));
            let n = x.dim(1)?;
            let centred = &x - x.mean_keepdims(1);
            let sums = centred.matmul(&centred.conj().t());
            let sums = if self.0.shape.len() == 1 { sums.reshape(()) } else { sums };
            Ok((sums / (n as f64 - ddof as f64).max(0.0)).astype(dtype))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    const LINEAR: Interpolation = Interpolation::Linear;

    #[test]
    fn parts_outside_are_refused() {
        let x = arange(4, DType::F32);
        for q in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(x.quantile(q, .., LINEAR).check().is_err(), "{q}");
            let dynamic = x.quantile(Array::scalar(q), .., LINEAR);
            assert!(dynamic.check().is_ok() && dynamic.eval().is_err(), "{q}");
        }
        assert!(x.percentile(101, .., LINEAR).check().is_err());
        assert!(x.quantile(true, .., LINEAR).check().is_err());
        assert!(zeros([2, 0], DType::F32).quantile(0.5, 1, LINEAR).check().is_err());
        assert!(zeros([2, 2], DType::C64).quantile(0.5, .., LINEAR).check().is_err());
    }

    #[test]
    fn special_elements() {
        let inf = f32::INFINITY;
        let x = Array::from_slice(&[-inf, 1.0, inf, inf], [4]);
        let q = |q: f64| x.quantile(q, .., LINEAR).item::<f32>().unwrap();
        assert_eq!((q(0.0), q(1.0 / 3.0), q(1.0), q(0.9)), (-inf, 1.0, inf, inf));
        let nan = Array::from_slice(&[1.0, f32::NAN], [2]);
        assert!(nan.quantile(0.0, .., Interpolation::Lower).item::<f32>().unwrap().is_nan());
        assert_eq!(full((), 3).quantile(0.3, .., LINEAR).item::<f32>().unwrap(), 3.0);
    }

    #[test]
    fn axes_of_parts_come_first() {
        let x = zeros([2, 3, 4], DType::F32);
        let q = zeros([5, 6], DType::F32);
        assert_eq!(x.quantile(&q, [0, 2], LINEAR).shape().unwrap(), &[5, 6, 3]);
        assert_eq!(x.quantile_keepdims(&q, 1, LINEAR).shape().unwrap(), &[5, 6, 2, 1, 4]);
        assert_eq!(x.percentile_keepdims(50, .., LINEAR).shape().unwrap(), &[1, 1, 1]);
    }

    #[test]
    fn covariance_of_few_observations() {
        assert!(ones([2, 1], DType::F32).cov(1).to_vec::<f32>().unwrap()[0].is_nan());
        assert_eq!(ones(3, DType::I32).cov(0).item::<f32>().unwrap(), 0.0);
        assert!(zeros((), DType::F32).cov(1).check().is_err());
    }
}
