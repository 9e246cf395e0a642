//! Masks: where they are true, and what they select.
//!
//! How many elements a mask selects is known when it is computed, so these evaluate the mask. What they
//! select is as lazy as everything else.

use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::ops::creation::zeros;
use crate::ops::join::stack;
use crate::ops::{attempt, axis_of, error};
use lazul_ir::{DType, Shape};

/// For each axis of `mask`, the indices of its true elements in row-major order.
pub(super) fn positions(mask: &Array) -> Result<Vec<Array>> {
    let values = mask.astype(DType::Bool).to_vec::<bool>()?;
    let shape = mask.shape()?;
    let count = values.iter().filter(|&&v| v).count();
    let narrow = shape.iter().all(|&d| d <= u32::MAX as usize);
    Ok(if narrow {
        split(&values, shape, count, |i| i as u32)
    } else {
        split(&values, shape, count, |i| i as i64)
    })
}

fn split<T: lazul_ir::Element>(
    values: &[bool],
    shape: &[usize],
    count: usize,
    index: impl Fn(usize) -> T,
) -> Vec<Array> {
    let mut out: Vec<Vec<T>> = shape.iter().map(|_| Vec::with_capacity(count)).collect();
    let width = shape.last().copied().unwrap_or(1);
    // Indices of the row along the last axis that is being read.
    let mut row = vec![0usize; shape.len().saturating_sub(1)];
    for line in values.chunks(width.max(1)) {
        for (last, _) in line.iter().enumerate().filter(|(_, v)| **v) {
            for (out, i) in out.iter_mut().zip(row.iter().copied().chain([last])) {
                out.push(index(i));
            }
        }
        for (i, d) in row.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    out.iter().map(|axis| Array::from_slice(axis, [axis.len()])).collect()
}

impl Array {
    /// The indices of the elements that are not zero, in row-major order: one array for each axis, as
    /// u32 (i64 if an axis is longer than that counts). They select those elements:
    /// `x.index(&x.nonzero()?)`. This is also the `where` of one argument. Evaluates the array.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[0, 3, 5, 0], [2, 2]);
    /// let at = x.nonzero()?;
    /// assert_eq!((at[0].to_vec::<u32>()?, at[1].to_vec::<u32>()?), (vec![0, 1], vec![1, 0]));
    /// assert_eq!(x.index(&at).to_vec::<i32>()?, [3, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// For an array without axes, and as [`crate::eval()`].
    #[track_caller]
    pub fn nonzero(&self) -> Result<Vec<Array>> {
        self.check()?;
        if self.0.shape.is_empty() {
            let why = "an array without axes has no indices";
            let site = crate::scope::call_site();
            return Err(error(ErrorKind::Shape, "nonzero", why, &[self]).at(site));
        }
        positions(self)
    }

    /// The indices of the elements that are not zero, in row-major order: `(count, rank)`, dtypes as
    /// [`Array::nonzero`]. Evaluates the array.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[0, 3, 5, 0], [2, 2]);
    /// assert_eq!(x.argwhere().to_vec::<u32>()?, [0, 1, 1, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argwhere(&self) -> Array {
        attempt(|| {
            self.check()?;
            if self.0.shape.is_empty() {
                let count = self.astype(DType::Bool).item::<bool>()? as usize;
                return Ok(zeros([count, 0], DType::U32));
            }
            Ok(stack(&positions(self)?, 1))
        })
    }

    /// The elements where `mask` is true, in row-major order, as one axis; array and mask broadcast
    /// against each other. Evaluates the mask.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, -2.0, 3.0], [3]);
    /// assert_eq!(x.masked_select(&x.greater(0.0)).to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn masked_select(&self, mask: &Array) -> Array {
        attempt(|| {
            self.check()?;
            mask.check()?;
            let Some(shape) = Shape::broadcast(&self.0.shape, &mask.0.shape) else {
                let why = "shapes cannot be broadcast";
                return Err(error(ErrorKind::Shape, "masked_select", why, &[self, mask]));
            };
            // A truth value selects its element, not an axis around it.
            let flat = |x: &Array| x.broadcast_to(&shape).reshape([-1]);
            Ok(flat(self).index(flat(&mask.astype(DType::Bool))))
        })
    }

    /// The slices along an axis where `condition`, one value for each, is true. A shorter condition
    /// leaves the rest out. Evaluates the condition.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([3, 2]);
    /// let odd = Array::from_slice(&[false, true, true], [3]);
    /// assert_eq!(x.compress(&odd, 0).to_vec::<i32>()?, [2, 3, 4, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn compress(&self, condition: &Array, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            condition.check()?;
            let axis = axis_of("compress", axis, self)?;
            let fits = matches!(condition.0.shape[..], [n] if n <= self.0.shape[axis]);
            if !fits {
                let why = format!("needs at most one truth value for each index of axis {axis}");
                return Err(error(ErrorKind::Shape, "compress", why, &[self, condition]));
            }
            Ok(self.take(&positions(condition)?[0], axis as i64))
        })
    }
}
