//! Views with strides of one's own choice: windows that overlap, diagonals, anything that steps through
//! an array's elements.

use super::{attempt, error, prim};
use crate::array::checked_shape;
use crate::error::ErrorKind;
use crate::ints::IntoInts;
use crate::node::Array;
use crate::ops::creation::{arange, zeros};
use lazul_ir::{DType, Prim, Shape, ViewOp};

impl Array {
    /// The elements at `offset + i · strides` of this array's elements in row-major order, for every
    /// index `i` of `shape`. Strides may be zero or negative, and places may overlap; all must lie
    /// inside. A view, unless this array is not in row-major order: then that copies it.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(5, DType::I32);
    /// // Windows of three.
    /// assert_eq!(x.as_strided([3, 3], [1, 1], 0).to_vec::<i32>()?, [0, 1, 2, 1, 2, 3, 2, 3, 4]);
    /// assert!(x.as_strided([3, 3], [1, 2], 0).check().is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn as_strided(&self, shape: impl IntoInts, strides: impl IntoInts, offset: usize) -> Array {
        let (shape, strides) = (shape.into_ints(), strides.into_ints());
        attempt(|| {
            self.check()?;
            let shape = checked_shape("as_strided", shape)?;
            if strides.len() != shape.len() {
                let why = format!("{} strides for {} axes", strides.len(), shape.len());
                return Err(error(ErrorKind::Shape, "as_strided", why, &[self]));
            }
            let size = self.0.shape.size();
            if shape.size() > 0 {
                let (mut low, mut high) = (offset as i128, offset as i128);
                for (&d, &s) in shape.iter().zip(&strides) {
                    let reach = (d as i128 - 1) * s as i128;
                    if reach < 0 { low += reach } else { high += reach }
                }
                if low < 0 || high >= size as i128 {
                    let why = format!("places {low} to {high} do not lie inside {size} elements");
                    return Err(error(ErrorKind::Index, "as_strided", why, &[self]));
                }
            }
            // The stride of an axis of length one leads nowhere.
            let strides = shape.iter().zip(&strides).map(|(&d, &s)| if d > 1 { s } else { 0 });
            let view = ViewOp::Strided { strides: strides.collect(), offset };
            Ok(prim(Prim::View(view), [self.clone()], shape, self.0.dtype))
        })
    }
}

/// The places in the operand that the elements of a strided view have, as i64 of the view's shape.
#[track_caller]
fn places(shape: &Shape, strides: &[i64], offset: usize) -> Array {
    let mut at = Array::scalar(offset as i64);
    for (i, (&d, &s)) in shape.iter().zip(strides).enumerate() {
        let mut axis = vec![1usize; shape.len()];
        axis[i] = d;
        at += (arange(d, DType::I64) * s).reshape(axis);
    }
    at.broadcast_to(shape)
}

/// Each element of the operand gets the sum of the cotangents of its places.
pub(crate) fn vjp(strides: &[i64], offset: usize, x: &Array, c: &Array) -> Array {
    let flat = zeros([x.0.shape.size()], c.0.dtype);
    flat.at(places(&c.0.shape, strides, offset)).add(c).reshape(&x.0.shape)
}

/// One more axis, whose stride is the size of one example.
pub(crate) fn vmap(strides: &[i64], offset: usize, x: &Array, size: usize, shape: &Shape) -> Array {
    let each = (x.0.shape.size() / size.max(1)) as i64;
    let strides: Vec<i64> = [each].iter().chain(strides).copied().collect();
    x.as_strided(shape, strides, offset)
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn every_place_must_lie_inside() {
        let x = arange(6, DType::I32).reshape([2, 3]);
        assert_eq!(x.as_strided([6], [-1], 5).to_vec::<i32>().unwrap(), [5, 4, 3, 2, 1, 0]);
        assert_eq!(x.as_strided([2, 2], [0, 5], 0).to_vec::<i32>().unwrap(), [0, 5, 0, 5]);
        assert_eq!(x.as_strided((), (), 5).item::<i32>().unwrap(), 5);
        assert_eq!(x.as_strided([0, 9], [i64::MAX, 7], usize::MAX).shape().unwrap(), &[0, 9]);
        let bad = [
            x.as_strided([6], [-1], 4),
            x.as_strided([7], [1], 0),
            x.as_strided([1], [1], 6),
            x.as_strided([2, 2], [i64::MAX, i64::MAX], 0),
            x.as_strided([2, 2], [i64::MIN, 1], 0),
            x.as_strided([2], [1, 1], 0),
            x.as_strided([-1], [1], 0),
            zeros(0, DType::F32).as_strided([1], [1], 0),
        ];
        for (i, x) in bad.iter().enumerate() {
            assert!(x.check().is_err(), "{i}");
        }
        assert_eq!(x.as_strided([1], [i64::MIN], 3).to_vec::<i32>().unwrap(), [3]);
    }

    #[test]
    fn what_counts_is_row_major_order() {
        let x = arange(6, DType::I32).reshape([2, 3]);
        assert_eq!(x.t().as_strided([6], [1], 0).to_vec::<i32>().unwrap(), [0, 3, 1, 4, 2, 5]);
        let part = x.index((.., 1..)).as_strided([3], [1], 1);
        assert_eq!(part.to_vec::<i32>().unwrap(), [2, 4, 5]);
        // A constant has one element in memory.
        let sevens = full([2, 3], 7).as_strided([2, 2], [2, 3], 0);
        assert_eq!(sevens.to_vec::<i32>().unwrap(), [7; 4]);
        assert_eq!((sevens + 1).to_vec::<i32>().unwrap(), [8; 4]);
    }

    #[test]
    fn derivatives_and_batches() {
        let x = arange(5, DType::F32);
        let f = |x: &Array| x.as_strided([2, 2], [1, 2], 1);
        assert_eq!(f(&x).to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
        let windows = |x: &Array| x.as_strided([3, 3], [1, 1], 0).sum(..);
        let g = grad(windows)(&x).unwrap();
        assert_eq!(g.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 2.0, 1.0]);
        let (_, t) = jvp(f, &x, &(&x * 2.0)).unwrap();
        assert_eq!(t.to_vec::<f32>().unwrap(), [2.0, 6.0, 4.0, 8.0]);
        let batch = stack(&[x.clone(), &x * 10.0], 0);
        let out = vmap(f)(&batch).unwrap();
        let expected = [1.0, 3.0, 2.0, 4.0, 10.0, 30.0, 20.0, 40.0];
        assert_eq!(out.to_vec::<f32>().unwrap(), expected);
    }
}
