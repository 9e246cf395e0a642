//! Reading and writing at positions: the general index ([`Array::index`], [`Array::at`]), and the
//! functions for one axis, for positions beside positions, and for blocks.
//!
//! Index arrays may be of any integer dtype and count from the end when negative. One out of bounds is
//! an error of the evaluation that meets it, never a wrong value. Integers that are known when the
//! operation is called are checked then.

mod at;
mod mask;
mod select;
mod words;

pub use at::At;
pub use words::{Ellipsis, Index, Indices, IntoIndex, IntoIndices, NewAxis, Slice, Step};

pub(crate) mod rules;

use super::{attempt, axis_of, error, prim};
use crate::error::{ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::Array;
use crate::operand::{IntoOperand, Operand, Weak};
use crate::ops::creation::zeros;
use crate::ops::join::concatenate;
use lazul_ir::{Axes, Prim, ScatterOp, Shape};

pub(crate) fn check_index(op: &'static str, index: &Array) -> Result<()> {
    index.check()?;
    if index.0.dtype.is_integer() {
        return Ok(());
    }
    Err(error(ErrorKind::DType, op, "indices must be integers", &[index]))
}

impl Array {
    /// The slices of an axis at `indices`: the axis is replaced by the dimensions of `indices`, which may
    /// be an array or one integer.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let table = arange(6, DType::F32).reshape([3, 2]);
    /// let rows = table.take(&Array::from_slice(&[2, 0], [2]), 0);
    /// assert_eq!(rows.to_vec::<f32>()?, [4.0, 5.0, 0.0, 1.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn take(&self, indices: impl IntoOperand, axis: i64) -> Array {
        let indices = match indices.into_operand() {
            Operand::Weak(Weak::Int(at)) => {
                let at = at.clamp(i64::MIN as i128, i64::MAX as i128) as i64;
                return self.at_index(axis, at);
            }
            other => other.into_array("take"),
        };
        attempt(|| {
            self.check()?;
            check_index("take", &indices)?;
            let axis = axis_of("take", axis, self)?;
            let rest = self.0.shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &d)| d);
            let shape: Shape = indices.0.shape.iter().copied().chain(rest).collect();
            let gather = Prim::Gather { axes: Axes::from_iter([axis as u8]) };
            let out = prim(gather, [self.clone(), indices.clone()], shape, self.0.dtype);
            // The kernel puts the index dimensions first; move them to where the axis was.
            let (k, rank) = (indices.0.shape.len(), out.0.shape.len());
            let order: Vec<usize> = (k..k + axis).chain(0..k).chain(k + axis..rank).collect();
            Ok(out.transpose(&order))
        })
    }

    /// The elements of the flattened array at `indices`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// assert_eq!(x.take_flat(Array::from_slice(&[4, -1], [2])).to_vec::<i32>()?, [4, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn take_flat(&self, indices: impl IntoOperand) -> Array {
        self.reshape([-1]).take(indices, 0)
    }

    /// The elements at `indices` along an axis, position by position along the others: dimensions
    /// other than the axis broadcast.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3, 1, 2, 9, 7, 8], [2, 3]);
    /// assert_eq!(x.take_along_axis(&x.argsort(1), 1).to_vec::<i32>()?, [1, 2, 3, 7, 8, 9]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn take_along_axis(&self, indices: &Array, axis: i64) -> Array {
        attempt(|| {
            let (x, index, axis) = self.along_axis("take_along_axis", indices, axis)?;
            let shape = index.0.shape.clone();
            Ok(prim(Prim::GatherAxis { axis: axis as u8 }, [x, index], shape, self.0.dtype))
        })
    }

    /// This array with `values` written at `indices` along an axis; of several writes to one place
    /// the last stays. `values` broadcasts to the shape of `indices`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (x, at) = (zeros([2, 2], DType::I32), Array::from_slice(&[1, 0], [2, 1]));
    /// assert_eq!(x.put_along_axis(&at, 7, 1).to_vec::<i32>()?, [0, 7, 7, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn put_along_axis(&self, indices: &Array, values: impl IntoOperand, axis: i64) -> Array {
        self.scatter_axis(ScatterOp::Assign, indices, values, axis)
    }

    /// This array with `values` added at `indices` along an axis, every one of them.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (x, at) = (ones(3, DType::I32), Array::from_slice(&[1, 1], [2]));
    /// assert_eq!(x.add_along_axis(&at, 5, 0).to_vec::<i32>()?, [1, 11, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn add_along_axis(&self, indices: &Array, values: impl IntoOperand, axis: i64) -> Array {
        self.scatter_axis(ScatterOp::Add, indices, values, axis)
    }

    #[track_caller]
    fn scatter_axis(
        &self,
        op: ScatterOp,
        indices: &Array,
        values: impl IntoOperand,
        axis: i64,
    ) -> Array {
        let values = values.into_operand().into_array_beside("put_along_axis", self.0.dtype);
        attempt(|| {
            values.check()?;
            let (x, index, axis) = self.along_axis("put_along_axis", indices, axis)?;
            if x.0.shape != self.0.shape {
                let why = "indices are larger than the array beside the axis";
                return Err(error(ErrorKind::Shape, "put_along_axis", why, &[self, indices]));
            }
            let values = values.astype(self.0.dtype).broadcast_to(&index.0.shape);
            values.check()?;
            let write = Prim::ScatterAxis { op, axis: axis as u8 };
            Ok(prim(write, [x, index, values], self.0.shape.clone(), self.0.dtype))
        })
    }

    /// Array and indices broadcast against each other beside `axis`.
    #[track_caller]
    fn along_axis(
        &self,
        op: &'static str,
        indices: &Array,
        axis: i64,
    ) -> Result<(Array, Array, usize)> {
        self.check()?;
        check_index(op, indices)?;
        let rank = self.0.shape.len();
        let axis = axis_of(op, axis, self)?;
        let broadcast = (indices.0.shape.len() == rank)
            .then(|| {
                let (mut a, mut b) = (self.0.shape.clone(), indices.0.shape.clone());
                (a[axis], b[axis]) = (1, 1);
                Shape::broadcast(&a, &b)
            })
            .flatten();
        let Some(mut shape) = broadcast else {
            let why = "dimensions beside the axis must agree";
            return Err(error(ErrorKind::Shape, op, why, &[self, indices]));
        };
        shape[axis] = self.0.shape[axis];
        let x = self.broadcast_to(&shape);
        shape[axis] = indices.0.shape[axis];
        Ok((x, indices.broadcast_to(&shape), axis))
    }

    /// This array with the block that begins at `starts` replaced by `update`, which is cast to this
    /// array's dtype. The block must lie inside. The memory is reused where nobody else holds this
    /// array.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 2], DType::I32).slice_update(&full([1, 2], 7), [1, 0]);
    /// assert_eq!(x.to_vec::<i32>()?, [0, 0, 7, 7]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn slice_update(&self, update: impl IntoOperand, starts: impl IntoInts) -> Array {
        let update = update.into_operand().into_array_beside("slice_update", self.0.dtype);
        let starts = starts.into_ints();
        attempt(|| {
            self.check()?;
            update.check()?;
            let (shape, block) = (&self.0.shape, &update.0.shape);
            let inside = starts.len() == shape.len()
                && block.len() == shape.len()
                && (0..shape.len()).all(|i| {
                    starts[i] >= 0 && (starts[i] as usize).saturating_add(block[i]) <= shape[i]
                });
            if !inside {
                let why = format!("the block at {starts:?} does not lie inside");
                return Err(error(ErrorKind::Index, "slice_update", why, &[self, &update]));
            }
            let steps = vec![1i64; shape.len()].into();
            let write = Prim::SliceUpdate { starts: starts.to_vec().into(), steps };
            let inputs = [self.clone(), update.astype(self.0.dtype)];
            Ok(prim(write, inputs, shape.clone(), self.0.dtype))
        })
    }

    /// The block of `sizes` that begins at `starts`, integers known only when the graph runs: one
    /// for each of `axes`; along other axes it begins at 0. `sizes` has an entry for each axis of the
    /// array. A block that does not lie inside is an error of the evaluation.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// let start = Array::from_slice(&[1], [1]);
    /// assert_eq!(x.dynamic_slice(&start, &[1], &[2, 2]).to_vec::<i32>()?, [1, 2, 4, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn dynamic_slice(&self, starts: &Array, axes: &[i64], sizes: &[usize]) -> Array {
        attempt(|| {
            self.check()?;
            let shape = &self.0.shape;
            let fits =
                sizes.len() == shape.len() && sizes.iter().zip(&shape[..]).all(|(s, d)| s <= d);
            if !fits {
                let why = format!("a block of {sizes:?} cannot lie inside");
                return Err(error(ErrorKind::Shape, "dynamic_slice", why, &[self]));
            }
            let (starts, axes) = self.dynamic_starts("dynamic_slice", starts, axes, sizes)?;
            let read = Prim::DynamicSlice { axes };
            Ok(prim(read, [self.clone(), starts], sizes.into(), self.0.dtype))
        })
    }

    /// This array with the block of `update`'s shape that begins at `starts` replaced by it; see
    /// [`Array::dynamic_slice`]. An update with fewer axes is repeated along the first ones. The memory is
    /// reused where nobody else holds this array.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (x, start) = (zeros([2, 3], DType::I32), Array::from_slice(&[1], [1]));
    /// let y = x.dynamic_slice_update(&ones(2, DType::I32), &start, &[1]);
    /// assert_eq!(y.to_vec::<i32>()?, [0, 1, 1, 0, 1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn dynamic_slice_update(&self, update: &Array, starts: &Array, axes: &[i64]) -> Array {
        attempt(|| {
            self.check()?;
            update.check()?;
            let shape = &self.0.shape;
            // An axis that the update lacks is whole, or one place of it where there is a start.
            let missing = shape.len().saturating_sub(update.0.shape.len());
            let started = |i: usize| {
                axes.contains(&(i as i64)) || axes.contains(&(i as i64 - shape.len() as i64))
            };
            let lead = (0..missing).map(|i| if started(i) { 1 } else { shape[i] });
            let block: Shape = lead.chain(update.0.shape.iter().copied()).collect();
            let fits =
                block.len() == shape.len() && block.iter().zip(&shape[..]).all(|(b, d)| b <= d);
            if !fits {
                let why = "the update cannot lie inside";
                return Err(error(ErrorKind::Shape, "dynamic_slice_update", why, &[self, update]));
            }
            let (starts, axes) =
                self.dynamic_starts("dynamic_slice_update", starts, axes, &block)?;
            let update = update.astype(self.0.dtype).broadcast_to(&block);
            let write = Prim::DynamicSliceUpdate { axes };
            Ok(prim(write, [self.clone(), update, starts], shape.clone(), self.0.dtype))
        })
    }

    /// Starts and axes of a block, those of other axes along which it is not whole among them.
    #[track_caller]
    fn dynamic_starts(
        &self,
        op: &'static str,
        starts: &Array,
        axes: &[i64],
        block: &[usize],
    ) -> Result<(Array, Axes)> {
        check_index(op, starts)?;
        let shape = &self.0.shape;
        let mut order = axes.iter().map(|&a| axis_of(op, a, self)).collect::<Result<Vec<_>>>()?;
        let distinct: std::collections::BTreeSet<_> = order.iter().collect();
        if distinct.len() != order.len() || starts.0.shape.size() != order.len() {
            let why = "needs one start for each of several distinct axes";
            return Err(error(ErrorKind::Shape, op, why, &[self, starts]));
        }
        let part = (0..shape.len()).filter(|i| block[*i] < shape[*i] && !order.contains(i));
        let part: Vec<usize> = part.collect();
        let mut starts = starts.reshape([-1]);
        if !part.is_empty() {
            starts = concatenate(&[starts.clone(), zeros([part.len()], starts.0.dtype)], 0);
        }
        order.extend(part);
        Ok((starts, order.iter().map(|&a| a as u8).collect()))
    }
}
