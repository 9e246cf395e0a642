//! Order along an axis.

pub(crate) mod rules;

use super::{attempt, axis_of, error, prim};
use crate::error::ErrorKind;
use crate::node::Array;
use lazul_ir::{DType, Prim};

impl Array {
    /// Elements in ascending order along an axis: stable, NaN last.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3.0f32, f32::NAN, 1.0], [3]);
    /// assert_eq!(x.sort(0).slice_axis(0, 0, 2).to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn sort(&self, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            let axis = axis_of("sort", axis, self)? as u8;
            Ok(prim(Prim::Sort { axis }, [self.clone()], self.0.shape.clone(), self.0.dtype))
        })
    }

    /// The indices (u32) that sort an axis: stable, NaN last.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3.0f32, 1.0, 2.0], [3]);
    /// assert_eq!(x.argsort(-1).to_vec::<u32>()?, [1, 2, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argsort(&self, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            let axis = axis_of("argsort", axis, self)?;
            if self.0.shape[axis] > u32::MAX as usize {
                return Err(error(ErrorKind::Shape, "argsort", "the axis is beyond u32", &[self]));
            }
            let sort = Prim::ArgSort { axis: axis as u8 };
            Ok(prim(sort, [self.clone()], self.0.shape.clone(), DType::U32))
        })
    }

    /// The `k` largest elements along an axis, in ascending order; NaN counts as the largest.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3.0f32, 1.0, 2.0], [3]);
    /// assert_eq!(x.topk(2, -1).to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn topk(&self, k: usize, axis: i64) -> Array {
        attempt(|| {
            let n = self.dim(axis)?;
            if k > n {
                let why = format!("k = {k} is more than the {n} there are");
                return Err(error(ErrorKind::Value, "topk", why, &[self]));
            }
            Ok(self.sort(axis).slice_axis(axis, (n - k) as i64, None))
        })
    }

    /// The elements rearranged along an axis so that the one at `kth` (negative from the end) is
    /// where sorting would put it, smaller ones before it and larger ones after it.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3, 1, 2], [3]).partition(1, 0);
    /// assert_eq!(x.at_index(0, 1).item::<i32>()?, 2);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn partition(&self, kth: i64, axis: i64) -> Array {
        attempt(|| {
            self.check_kth("partition", kth, axis)?;
            Ok(self.sort(axis))
        })
    }

    /// The indices (u32) that partition an axis; see [`Array::partition`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let at = Array::from_slice(&[3, 1, 2], [3]).argpartition(1, 0);
    /// assert_eq!(at.at_index(0, 1).item::<u32>()?, 2);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argpartition(&self, kth: i64, axis: i64) -> Array {
        attempt(|| {
            self.check_kth("argpartition", kth, axis)?;
            Ok(self.argsort(axis))
        })
    }

    #[track_caller]
    fn check_kth(&self, op: &'static str, kth: i64, axis: i64) -> crate::error::Result<()> {
        let n = self.dim(axis)? as i64;
        if (-n..n).contains(&kth) {
            return Ok(());
        }
        let why = format!("position {kth} is out of range for an axis of length {n}");
        Err(error(ErrorKind::Value, op, why, &[self]))
    }
}
