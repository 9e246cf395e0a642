//! Reading and writing by arrays of indices.
//!
//! Indices may be of any integer dtype and count from the end when negative. One out of bounds is an
//! error of the evaluation that meets it, never a wrong value.

pub(crate) mod rules;

use super::{attempt, axis_of, error, prim};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use crate::operand::IntoOperand;
use crate::scope::call_site;
use lazul_ir::{Axes, DType, Prim, ScatterOp, Shape};

pub(crate) fn check_index(op: &'static str, index: &Array) -> Result<()> {
    index.check()?;
    if index.0.dtype.is_integer() {
        return Ok(());
    }
    Err(error(ErrorKind::DType, op, "indices must be integers", &[index]))
}

impl Array {
    /// The slices of an axis at `indices`: the axis is replaced by the dimensions of `indices`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let table = arange(6, DType::F32).reshape([3, 2]);
    /// let rows = table.take(&Array::from_slice(&[2, 0], [2]), 0);
    /// assert_eq!(rows.to_vec::<f32>()?, [4.0, 5.0, 0.0, 1.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn take(&self, indices: &Array, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            check_index("take", indices)?;
            let axis = axis_of("take", axis, self.0.shape.len())?;
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
    #[track_caller]
    pub fn take_flat(&self, indices: &Array) -> Array {
        self.reshape([-1]).take(indices, 0)
    }

    /// The elements at `indices` along an axis, position by position along the others: dimensions
    /// other than the axis broadcast.
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
    #[track_caller]
    pub fn put_along_axis(&self, indices: &Array, values: impl IntoOperand, axis: i64) -> Array {
        self.scatter_axis(ScatterOp::Assign, indices, values, axis)
    }

    /// This array with `values` added at `indices` along an axis, every one of them.
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
        let axis = axis_of(op, axis, rank)?;
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

    /// The block of `sizes` that begins at `starts`, integers known only when the graph runs: one
    /// for each of `axes`. Other axes are taken whole (`sizes` has an entry for each axis of the
    /// array). A block that does not lie inside is an error of the evaluation.
    #[track_caller]
    pub fn dynamic_slice(&self, starts: &Array, axes: &[i64], sizes: &[usize]) -> Array {
        attempt(|| {
            self.check()?;
            let axes = self.dynamic_axes("dynamic_slice", starts, axes)?;
            let shape = &self.0.shape;
            let fits = sizes.len() == shape.len()
                && (0..shape.len()).all(|i| match axes.contains(&(i as u8)) {
                    true => sizes[i] <= shape[i],
                    false => sizes[i] == shape[i],
                });
            if !fits {
                let why = format!("a block of {sizes:?} cannot lie inside");
                return Err(error(ErrorKind::Shape, "dynamic_slice", why, &[self]));
            }
            let inputs = [self.clone(), starts.clone()];
            Ok(prim(Prim::DynamicSlice { axes }, inputs, sizes.into(), self.0.dtype))
        })
    }

    /// This array with the block that begins at `starts` replaced by `update`; see
    /// [`Array::dynamic_slice`]. The memory is reused where nobody else holds this array.
    #[track_caller]
    pub fn dynamic_slice_update(&self, update: &Array, starts: &Array, axes: &[i64]) -> Array {
        attempt(|| {
            self.check()?;
            update.check()?;
            let axes = self.dynamic_axes("dynamic_slice_update", starts, axes)?;
            let (shape, block) = (&self.0.shape, &update.0.shape);
            let fits = block.len() == shape.len()
                && (0..shape.len()).all(|i| match axes.contains(&(i as u8)) {
                    true => block[i] <= shape[i],
                    false => block[i] == shape[i],
                });
            if !fits {
                let why = "the update cannot lie inside";
                return Err(error(ErrorKind::Shape, "dynamic_slice_update", why, &[self, update]));
            }
            let inputs = [self.clone(), update.astype(self.0.dtype), starts.clone()];
            Ok(prim(Prim::DynamicSliceUpdate { axes }, inputs, shape.clone(), self.0.dtype))
        })
    }

    fn dynamic_axes(&self, op: &'static str, starts: &Array, axes: &[i64]) -> Result<Axes> {
        check_index(op, starts)?;
        let rank = self.0.shape.len();
        let order = axes.iter().map(|&a| axis_of(op, a, rank)).collect::<Result<Vec<_>>>()?;
        let distinct: std::collections::BTreeSet<_> = order.iter().collect();
        if distinct.len() != order.len() || starts.0.shape.size() != order.len() {
            let why = "needs one start for each of several distinct axes";
            return Err(error(ErrorKind::Shape, op, why, &[self, starts]));
        }
        Ok(order.iter().map(|&a| a as u8).collect())
    }

    /// Where updates by arrays of indices go: see [`At`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros(3, DType::F32).at(&[Array::from_slice(&[0, 0, 2], [3])]).add(1.0);
    /// assert_eq!(x.to_vec::<f32>()?, [2.0, 0.0, 1.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn at(&self, indices: &[Array]) -> At {
        At { array: self.clone(), indices: indices.to_vec() }
    }
}

/// Positions of an array, named by index arrays for its first axes, that an update goes to.
///
/// Index arrays broadcast to one shape `I`; the update broadcasts to `I` followed by the array's
/// other dimensions. Updates give a new array; where nobody else holds the old one its memory is
/// reused.
#[must_use]
pub struct At {
    array: Array,
    indices: Vec<Array>,
}

impl At {
    /// The array with the positions replaced; of several writes to one place the last stays.
    #[track_caller]
    pub fn set(self, values: impl IntoOperand) -> Array {
        self.scatter(ScatterOp::Assign, values)
    }

    /// The array with values added, every one of them.
    #[track_caller]
    #[allow(clippy::should_implement_trait)] // It is MLX's name, and `At` is no number.
    pub fn add(self, values: impl IntoOperand) -> Array {
        self.scatter(ScatterOp::Add, values)
    }

    /// The array with values subtracted, every one of them.
    #[track_caller]
    pub fn subtract(self, values: impl IntoOperand) -> Array {
        let values = values.into_operand().into_array_beside("scatter", self.array.0.dtype);
        // In the array's dtype first: the negative of an unsigned value is not one.
        let values = values.astype(self.array.0.dtype);
        self.scatter(ScatterOp::Add, values.negative())
    }

    /// The array with positions multiplied by values, every one of them.
    #[track_caller]
    pub fn multiply(self, values: impl IntoOperand) -> Array {
        self.scatter(ScatterOp::Multiply, values)
    }

    /// The array with positions divided by values, every one of them. Not for integers and bool.
    #[track_caller]
    pub fn divide(self, values: impl IntoOperand) -> Array {
        let values = values.into_operand().into_array_beside("scatter", self.array.0.dtype);
        if !self.array.0.failed && !self.array.0.dtype.is_inexact() {
            let why = "integers and bool cannot hold quotients";
            let wrong = error(ErrorKind::DType, "scatter", why, &[&self.array]);
            return Array::fail(wrong, call_site());
        }
        let values = values.astype(self.array.0.dtype);
        self.scatter(ScatterOp::Multiply, values.reciprocal())
    }

    /// The array with the larger of old and new values.
    #[track_caller]
    pub fn maximum(self, values: impl IntoOperand) -> Array {
        self.scatter(ScatterOp::Max, values)
    }

    /// The array with the smaller of old and new values.
    #[track_caller]
    pub fn minimum(self, values: impl IntoOperand) -> Array {
        self.scatter(ScatterOp::Min, values)
    }

    #[track_caller]
    fn scatter(self, op: ScatterOp, values: impl IntoOperand) -> Array {
        let x = &self.array;
        let values = values.into_operand().into_array_beside("scatter", x.0.dtype);
        attempt(|| {
            x.check()?;
            values.check()?;
            self.indices.iter().try_for_each(|i| check_index("scatter", i))?;
            let k = self.indices.len();
            if k == 0 || k > x.0.shape.len() {
                let why = format!("{k} index arrays for {} axes", x.0.shape.len());
                return Err(Error::new(ErrorKind::Shape, "scatter", why));
            }
            if x.0.dtype == DType::C64 && matches!(op, ScatterOp::Min | ScatterOp::Max) {
                return Err(error(ErrorKind::DType, "scatter", "complex has no order", &[x]));
            }
            let indices = crate::ops::shape::broadcast_arrays(&self.indices)?;
            let rest = x.0.shape[k..].iter().copied();
            let shape: Shape = indices[0].0.shape.iter().copied().chain(rest).collect();
            let values = values.astype(x.0.dtype).broadcast_to(&shape);
            values.check()?;
            let axes: Axes = (0..k as u8).collect();
            let inputs = [x.clone()].into_iter().chain(indices).chain([values]);
            Ok(prim(Prim::Scatter { op, axes }, inputs, x.0.shape.clone(), x.0.dtype))
        })
    }
}
