//! Joining arrays, and making larger ones of them: concatenation, repetition, padding.

use super::{attempt, axis_of, error, prim};
use crate::array::checked_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::{IntoAxes, IntoInts};
use crate::node::Array;
use crate::ops::creation::arange_step;
use crate::scope::call_site;
use lazul_ir::{DType, Prim};

/// Arrays joined along an axis that exists in all of them; dtypes are promoted.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = concatenate(&[arange(2, DType::I32), zeros(1, DType::I32)], 0);
/// assert_eq!(x.to_vec::<i32>()?, [0, 1, 0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn concatenate(arrays: &[Array], axis: i64) -> Array {
    attempt(|| {
        arrays.iter().try_for_each(Array::check)?;
        let Some(first) = arrays.first() else {
            return Err(Error::new(ErrorKind::Value, "concatenate", "there are no arrays"));
        };
        let axis = axis_of("concatenate", axis, first)?;
        let mut shape = first.0.shape.clone();
        let mut dtype = first.0.dtype;
        for a in &arrays[1..] {
            let same = a.0.shape.len() == shape.len()
                && (0..shape.len()).all(|i| i == axis || a.0.shape[i] == shape[i]);
            if !same {
                let all: Vec<&Array> = arrays.iter().collect();
                let why = format!("dimensions other than axis {axis} must agree");
                return Err(error(ErrorKind::Shape, "concatenate", why, &all));
            }
            shape[axis] = shape[axis].saturating_add(a.0.shape[axis]);
            dtype = DType::promote(dtype, a.0.dtype);
        }
        if arrays.len() == 1 {
            return Ok(first.clone());
        }
        let inputs = arrays.iter().map(|a| a.astype(dtype));
        Ok(prim(Prim::Concatenate { axis: axis as u8 }, inputs, shape, dtype))
    })
}

/// Arrays of one shape joined along a new axis.
///
/// ```
/// use lazul_core::prelude::*;
/// let rows = [arange(2, DType::I32), zeros(2, DType::I32)];
/// assert_eq!(stack(&rows, 1).to_vec::<i32>()?, [0, 0, 1, 0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn stack(arrays: &[Array], axis: i64) -> Array {
    attempt(|| {
        if let Some((first, rest)) = arrays.split_first() {
            let shape = first.shape()?;
            for other in rest {
                if other.shape()? != shape {
                    let all: Vec<&Array> = arrays.iter().collect();
                    let why = "shapes must be the same";
                    return Err(error(ErrorKind::Shape, "stack", why, &all));
                }
            }
        }
        let expanded: Vec<Array> = arrays.iter().map(|a| a.expand_dims(axis)).collect();
        Ok(concatenate(&expanded, axis))
    })
}

impl Array {
    /// Every element repeated `repeats` times along an axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::I32).repeat(2, 0).to_vec::<i32>()?, [0, 0, 1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn repeat(&self, repeats: usize, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            let axis = axis_of("repeat", axis, self)?;
            let mut wide = self.0.shape.clone();
            wide.insert(axis + 1, repeats);
            let mut shape = self.0.shape.clone();
            shape[axis] = shape[axis].saturating_mul(repeats);
            Ok(self.expand_dims(axis + 1).broadcast_to(&wide).reshape(&shape))
        })
    }

    /// The whole array repeated along each axis; missing leading entries are 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::I32).tile([2]).to_vec::<i32>()?, [0, 1, 0, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn tile(&self, reps: impl IntoInts) -> Array {
        let reps = reps.into_ints();
        attempt(|| {
            let reps = checked_shape("tile", reps)?;
            self.check()?;
            let rank = reps.len().max(self.0.shape.len());
            let pad = |s: &[usize]| [vec![1; rank - s.len()], s.to_vec()].concat();
            let (reps, dims) = (pad(&reps), pad(&self.0.shape));
            let from: Vec<usize> = dims.iter().flat_map(|&d| [1, d]).collect();
            let wide: Vec<usize> = dims.iter().zip(&reps).flat_map(|(&d, &r)| [r, d]).collect();
            let to: Vec<usize> =
                dims.iter().zip(&reps).map(|(d, r)| d.saturating_mul(*r)).collect();
            Ok(self.reshape(from).broadcast_to(wide).reshape(to))
        })
    }

    /// Elements moved by as many places as `shifts` says along axes, those past the end coming back at the
    /// start: one shift for each axis, or one for all of them. `..` moves the elements of the flattened
    /// array.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// assert_eq!(x.roll(1, -1).to_vec::<i32>()?, [2, 0, 1, 5, 3, 4]);
    /// assert_eq!(x.roll([1, -1], [0, 1]).to_vec::<i32>()?, [4, 5, 3, 1, 2, 0]);
    /// assert_eq!(x.roll(2, ..).to_vec::<i32>()?, [4, 5, 0, 1, 2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn roll(&self, shifts: impl IntoInts, axes: impl IntoAxes) -> Array {
        let (shifts, axes) = (shifts.into_ints(), axes.into_axes());
        attempt(|| {
            self.check()?;
            let Some(axes) = axes else {
                let total = shifts.iter().map(|&s| s as i128).sum::<i128>();
                return Ok(self.reshape([-1]).roll_axis(total, 0).reshape(&self.0.shape));
            };
            if shifts.len() != axes.len() && shifts.len() != 1 {
                let why = format!("{} shifts for {} axes", shifts.len(), axes.len());
                return Err(error(ErrorKind::Value, "roll", why, &[self]));
            }
            let mut x = self.clone();
            for (i, &axis) in axes.iter().enumerate() {
                let axis = axis_of("roll", axis, self)?;
                x = x.roll_axis(shifts[if shifts.len() == 1 { 0 } else { i }] as i128, axis);
            }
            Ok(x)
        })
    }

    #[track_caller]
    fn roll_axis(&self, shift: i128, axis: usize) -> Array {
        let n = self.0.shape[axis] as i128;
        if n == 0 || shift.rem_euclid(n) == 0 {
            return self.clone();
        }
        let (axis, cut) = (axis as i64, (n - shift.rem_euclid(n)) as i64);
        concatenate(&[self.slice_axis(axis, cut, None), self.slice_axis(axis, 0, cut)], axis)
    }

    /// Padding of `(before, after)` elements along each axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange_step(1, 4, 1, DType::I32);
    /// assert_eq!(x.pad(&[(1, 2)], Pad::Constant(0.0)).to_vec::<i32>()?, [0, 1, 2, 3, 0, 0]);
    /// assert_eq!(x.pad(&[(1, 1)], Pad::Reflect).to_vec::<i32>()?, [2, 1, 2, 3, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn pad(&self, widths: &[(usize, usize)], mode: Pad) -> Array {
        attempt(|| {
            self.check()?;
            if widths.len() != self.0.shape.len() {
                let why =
                    format!("{} pairs of widths for {} axes", widths.len(), self.0.shape.len());
                return Err(error(ErrorKind::Shape, "pad", why, &[self]));
            }
            let mut x = self.clone();
            for (axis, &(before, after)) in widths.iter().enumerate() {
                if (before, after) != (0, 0) {
                    x = x.pad_axis(axis, before, after, mode)?;
                }
            }
            Ok(x)
        })
    }

    #[track_caller]
    fn pad_axis(&self, axis: usize, before: usize, after: usize, mode: Pad) -> Result<Array> {
        let n = self.dim(axis as i64)?;
        let at = axis as i64;
        let side = |count: usize, first: bool| -> Result<Option<Array>> {
            if count == 0 {
                return Ok(None);
            }
            let mut shape = self.0.shape.clone();
            shape[axis] = count;
            if n == 0 && !matches!(mode, Pad::Constant(_)) {
                let why =
                    format!("axis {axis} is empty: there is nothing to pad with in this mode");
                return Err(error(ErrorKind::Shape, "pad", why, &[self]));
            }
            if count > isize::MAX as usize / 16 {
                let why = format!("{count} elements are too many");
                return Err(error(ErrorKind::Shape, "pad", why, &[self]));
            }
            let (n, count) = (n as i64, count as i64);
            // Padding longer than the axis is mirrored back and forth.
            let mirrored = |period: i64, edge: i64| {
                let from = if first { -count } else { n };
                let i = arange_step(from, from + count, 1, DType::I64).remainder(period);
                self.take(i.minimum(i.negative() + edge), at)
            };
            Ok(Some(match mode {
                Pad::Constant(value) => {
                    let value = lazul_ir::Scalar::from_f64(value, self.0.dtype);
                    crate::operand::constant(value, shape, call_site())
                }
                Pad::Edge => {
                    let i = if first { 0 } else { n - 1 };
                    self.slice_axis(at, i, i + 1).broadcast_to(&shape)
                }
                Pad::Reflect if count >= n => {
                    let period = (2 * n - 2).max(1);
                    mirrored(period, period)
                }
                Pad::Reflect => {
                    let part = if first { (1, count + 1) } else { (n - 1 - count, n - 1) };
                    self.slice_axis(at, part.0, part.1).flip(axis)
                }
                Pad::Symmetric if count > n => mirrored(2 * n, 2 * n - 1),
                Pad::Symmetric => {
                    let part = if first { (0, count) } else { (n - count, n) };
                    self.slice_axis(at, part.0, part.1).flip(axis)
                }
            }))
        };
        let parts = [side(before, true)?, Some(self.clone()), side(after, false)?];
        Ok(concatenate(&parts.into_iter().flatten().collect::<Vec<_>>(), at))
    }
}

/// What padding is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pad {
    /// A value, rounded to the array's dtype.
    Constant(f64),
    /// The outermost element.
    Edge,
    /// The elements mirrored at the outermost one, which is not repeated; back and forth where the
    /// padding is longer than the axis.
    Reflect,
    /// The elements mirrored at the border: the outermost one is repeated; back and forth as above.
    Symmetric,
}
