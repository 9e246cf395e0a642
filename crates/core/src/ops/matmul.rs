//! Matrix products.

pub(crate) mod rules;

use super::{attempt, axis_of, cast_unchecked, error, prim};
use crate::error::ErrorKind;
use crate::node::Array;
use crate::scope::call_site;
use lazul_ir::{DType, Prim, Shape};

impl Array {
    /// Matrix product over the last two axes, with broadcasting of the others; one-dimensional
    /// operands are row (left) or column (right) vectors whose axis goes away.
    ///
    /// Every dtype; integers wrap, f16 and bf16 accumulate in f32. Transposed operands are not
    /// copied.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let a = arange(6, DType::F32).reshape([2, 3]);
    /// assert_eq!(a.matmul(&a.t()).to_vec::<f32>()?, [5.0, 14.0, 14.0, 50.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn matmul(&self, other: &Array) -> Array {
        let site = call_site();
        attempt(|| {
            self.check()?;
            other.check()?;
            let (ra, rb) = (self.0.shape.len(), other.0.shape.len());
            if ra == 0 || rb == 0 {
                let why = "operands need at least one dimension";
                return Err(error(ErrorKind::Shape, "matmul", why, &[self, other]));
            }
            let dtype = DType::promote(self.0.dtype, other.0.dtype);
            let a = if ra == 1 { self.expand_dims(0) } else { self.clone() };
            let b = if rb == 1 { other.expand_dims(1) } else { other.clone() };
            let (&[ref batch_a @ .., m, k], &[ref batch_b @ .., kb, n]) =
                (&a.0.shape[..], &b.0.shape[..])
            else {
                unreachable!("both operands have two axes now")
            };
            if k != kb {
                let why = format!("inner dimensions {k} and {kb} differ");
                return Err(error(ErrorKind::Shape, "matmul", why, &[self, other]));
            }
            let Some(batch) = Shape::broadcast(batch_a, batch_b) else {
                let why = "batch dimensions cannot be broadcast";
                return Err(error(ErrorKind::Shape, "matmul", why, &[self, other]));
            };
            let with = |x: usize, y: usize| batch.iter().copied().chain([x, y]).collect::<Shape>();
            // A matrix on the right makes one tall product of a batch on the left.
            let flat = batch_b.is_empty() && !batch_a.is_empty();
            let out = if flat {
                let rows: usize = batch_a.iter().product::<usize>() * m;
                let a = cast_unchecked(&a, dtype, site).reshape([rows, k]);
                let b = cast_unchecked(&b, dtype, site);
                prim(Prim::Matmul, [a, b], Shape::new(&[rows, n]), dtype).reshape(&with(m, n))
            } else {
                let a = cast_unchecked(&a, dtype, site).broadcast_to(&with(m, k));
                let b = cast_unchecked(&b, dtype, site).broadcast_to(&with(k, n));
                prim(Prim::Matmul, [a, b], with(m, n), dtype)
            };
            let mut shape = with(m, n);
            if rb == 1 {
                shape.remove(shape.len() - 1);
            }
            if ra == 1 {
                shape.remove(shape.len() - if rb == 1 { 1 } else { 2 });
            }
            Ok(out.reshape(&shape))
        })
    }

    /// `beta * c + alpha * (a · b)`, where this array is `c` and broadcasts to the product. Floats and
    /// complex numbers only; with a `beta` of 0 `c` is not read at all.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (a, b) = (ones([2, 3], DType::F32), ones([3, 2], DType::F32));
    /// let y = Array::from_slice(&[1.0f32, 2.0], [2]).addmm(&a, &b, 2.0, 10.0);
    /// assert_eq!(y.to_vec::<f32>()?, [16.0, 26.0, 16.0, 26.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn addmm(&self, a: &Array, b: &Array, alpha: f64, beta: f64) -> Array {
        let site = call_site();
        attempt(|| {
            [self, a, b].into_iter().try_for_each(|x| x.check())?;
            let dtype = DType::promote(DType::promote(a.0.dtype, b.0.dtype), self.0.dtype);
            if !dtype.is_inexact() {
                let why = "needs floats";
                return Err(error(ErrorKind::DType, "addmm", why, &[self, a, b]));
            }
            let [c, a, b] = [self, a, b].map(|x| cast_unchecked(x, dtype, site));
            let product = a.matmul(&b);
            product.check()?;
            let shape = &product.0.shape;
            if Shape::broadcast(&c.0.shape, shape).as_ref() != Some(shape) {
                let why = format!(
                    "the product has shape {shape}, to which the first operand must broadcast"
                );
                return Err(error(ErrorKind::Shape, "addmm", why, &[self, &a, &b]));
            }
            let scaled = |x: Array, by: f64| if by == 1.0 { x } else { x * by };
            let product = scaled(product, alpha);
            Ok(if beta == 0.0 { product } else { product + scaled(c, beta) })
        })
    }

    /// Every product of an element of one flattened array with one of the other: `(n, m)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(2, DType::I32);
    /// assert_eq!((&x + 1).outer(&x).to_vec::<i32>()?, [0, 1, 0, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn outer(&self, other: &Array) -> Array {
        self.reshape([-1, 1]).multiply(other.reshape([1, -1]))
    }

    /// Inner product over the last axes: `(…a, …b)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(3, DType::F32);
    /// assert_eq!(x.inner(&x).item::<f32>()?, 5.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn inner(&self, other: &Array) -> Array {
        if self.0.shape.is_empty() || other.0.shape.is_empty() {
            return self.multiply(other);
        }
        self.tensordot(other, &[-1], &[-1])
    }

    /// Sum of products along an axis of two arrays that broadcast to one shape beside it; the axis goes
    /// away, and complex numbers on the left are conjugated.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::F32).reshape([2, 3]);
    /// assert_eq!(x.vecdot(&x, -1).to_vec::<f32>()?, [5.0, 50.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn vecdot(&self, other: &Array, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            other.check()?;
            let (a, b) = (axis_of("vecdot", axis, self)?, axis_of("vecdot", axis, other)?);
            if self.0.shape[a] != other.0.shape[b] {
                let why = "the axis has two lengths";
                return Err(error(ErrorKind::Shape, "vecdot", why, &[self, other]));
            }
            // (…, k) · (…, k) as (…, 1, k) (…, k, 1).
            let left = self.conj().moveaxis(a as i64, -1).expand_dims(-2);
            let right = other.moveaxis(b as i64, -1).expand_dims(-1);
            let out = left.matmul(&right);
            Ok(out.squeeze([-2, -1]))
        })
    }

    /// The Kronecker product: every element of this array times the whole of the other, block by block.
    /// Missing leading axes have length one.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (a, b) = (Array::from_slice(&[1, 2], [2]), Array::from_slice(&[1, 10], [2]));
    /// assert_eq!(a.kron(&b).to_vec::<i32>()?, [1, 10, 2, 20]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn kron(&self, other: &Array) -> Array {
        attempt(|| {
            self.check()?;
            other.check()?;
            let rank = self.0.shape.len().max(other.0.shape.len());
            let padded = |x: &Array| {
                let missing = rank - x.0.shape.len();
                std::iter::repeat_n(1, missing).chain(x.0.shape.iter().copied()).collect::<Shape>()
            };
            let (a, b) = (padded(self), padded(other));
            let left: Vec<usize> = a.iter().flat_map(|&d| [d, 1]).collect();
            let right: Vec<usize> = b.iter().flat_map(|&d| [1, d]).collect();
            let shape: Vec<usize> =
                a.iter().zip(b.iter()).map(|(&a, &b)| a.saturating_mul(b)).collect();
            Ok(self.reshape(left).multiply(other.reshape(right)).reshape(shape))
        })
    }

    /// [`Array::tensordot`] of the last `count` axes of this array with the first `count` of the other.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = ones([2, 3, 4], DType::F32);
    /// assert_eq!(x.tensordot_count(&ones([3, 4, 5], DType::F32), 2).shape()?, &[2, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn tensordot_count(&self, other: &Array, count: usize) -> Array {
        attempt(|| {
            self.check()?;
            other.check()?;
            if count > self.0.shape.len().min(other.0.shape.len()) {
                let why = format!("there are not {count} axes in both");
                return Err(error(ErrorKind::Shape, "tensordot", why, &[self, other]));
            }
            let n = count as i64;
            let (left, right): (Vec<i64>, Vec<i64>) = ((-n..0).collect(), (0..n).collect());
            Ok(self.tensordot(other, &left, &right))
        })
    }

    /// Sum of products over pairs of axes: the remaining axes of both, in order.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (x, y) = (ones([2, 3], DType::F32), ones([3, 4], DType::F32));
    /// assert_eq!(x.tensordot(&y, &[1], &[0]).shape()?, &[2, 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn tensordot(&self, other: &Array, axes: &[i64], other_axes: &[i64]) -> Array {
        attempt(|| {
            self.check()?;
            other.check()?;
            let resolve = |x: &Array, axes: &[i64]| {
                axes.iter()
                    .map(|&a| axis_of("tensordot", a, x))
                    .collect::<crate::error::Result<Vec<_>>>()
            };
            let (ia, ib) = (resolve(self, axes)?, resolve(other, other_axes)?);
            let fits = ia.len() == ib.len()
                && ia.iter().zip(&ib).all(|(&i, &j)| self.0.shape[i] == other.0.shape[j]);
            if !fits {
                let why = "the contracted axes do not pair up";
                return Err(error(ErrorKind::Shape, "tensordot", why, &[self, other]));
            }
            let free = |x: &Array, used: &[usize]| -> Vec<usize> {
                (0..x.0.shape.len()).filter(|i| !used.contains(i)).collect()
            };
            let (fa, fb) = (free(self, &ia), free(other, &ib));
            let size =
                |x: &Array, axes: &[usize]| axes.iter().map(|&i| x.0.shape[i]).product::<usize>();
            let (m, k, n) = (size(self, &fa), size(self, &ia), size(other, &fb));
            let a = self.transpose([&fa[..], &ia[..]].concat()).reshape([m, k]);
            let b = other.transpose([&ib[..], &fb[..]].concat()).reshape([k, n]);
            let dims =
                fa.iter().map(|&i| self.0.shape[i]).chain(fb.iter().map(|&i| other.0.shape[i]));
            Ok(a.matmul(&b).reshape(&dims.collect::<Shape>()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn sums_with_products() -> crate::Result<()> {
        let (a, b) =
            (arange(6, DType::F32).reshape([2, 3]), arange(12, DType::F32).reshape([3, 4]));
        let c = arange(4, DType::F32);
        let want = a.matmul(&b) * 0.5 + &c * 3.0;
        assert_eq!(c.addmm(&a, &b, 0.5, 3.0).to_vec::<f32>()?, want.to_vec::<f32>()?);
        let nan = Array::scalar(f32::NAN);
        let got = nan.addmm(&a, &b, 1.0, 0.0).to_vec::<f32>()?;
        assert_eq!(got, a.matmul(&b).to_vec::<f32>()?);
        let half =
            c.astype(DType::F16).addmm(&a.astype(DType::BF16), &b.astype(DType::BF16), 1.0, 1.0);
        assert_eq!(half.dtype()?, DType::F32);
        assert_eq!(nan.addmm(&c, &c, 1.0, 1.0).shape()?, [0usize; 0]);
        let fails = |y: Array, kind, op| {
            let error = y.check().unwrap_err();
            assert_eq!((error.kind(), error.op()), (kind, op));
        };
        fails(arange(3, DType::F32).addmm(&a, &b, 1.0, 1.0), ErrorKind::Shape, "addmm");
        fails(zeros([5, 2, 4], DType::F32).addmm(&a, &b, 1.0, 1.0), ErrorKind::Shape, "addmm");
        fails(c.addmm(&a, &a, 1.0, 1.0), ErrorKind::Shape, "matmul");
        let [a, b, c] = [a, b, c].map(|x| x.astype(DType::I32));
        fails(c.addmm(&a, &b, 1.0, 1.0), ErrorKind::DType, "addmm");
        Ok(())
    }
}
