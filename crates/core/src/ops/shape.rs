//! Views: reshape, transpose, broadcast, slices, the same bytes as another dtype.
//!
//! Views move no element: they are computed as layouts when the graph runs. Only a reshape that
//! strides cannot express copies.

pub(crate) mod rules;

use super::{attempt, axes_in, axes_of, axis_of, broadcast_unchecked, error, prim};
use crate::array::checked_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::Array;
use crate::scope::call_site;
use lazul_ir::{Axes, DType, Prim, Shape, ViewOp};

#[track_caller]
fn view(op: ViewOp, x: &Array, shape: Shape) -> Array {
    prim(Prim::View(op), [x.clone()], shape, x.0.dtype)
}

impl Array {
    /// The same elements in row-major order under another shape; one dimension may be -1 and is
    /// then computed.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, -1]);
    /// assert_eq!(x.shape()?, &[2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn reshape(&self, shape: impl IntoInts) -> Array {
        let mut ints = shape.into_ints();
        attempt(|| {
            self.check()?;
            let size = self.0.shape.size();
            if let Some(at) = ints.iter().position(|&d| d == -1) {
                let rest: i64 = ints
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| *i != at)
                    .fold(1, |p, (_, &d)| p.saturating_mul(d));
                if rest <= 0 || size as i64 % rest != 0 {
                    let why = format!("{size} elements do not divide into {ints:?}");
                    return Err(error(ErrorKind::Shape, "reshape", why, &[self]));
                }
                ints[at] = size as i64 / rest;
            }
            let shape = checked_shape("reshape", ints)?;
            if shape.size() != size {
                let why = format!("{size} elements do not fill shape {shape}");
                return Err(error(ErrorKind::Shape, "reshape", why, &[self]));
            }
            if shape == self.0.shape {
                return Ok(self.clone());
            }
            Ok(view(ViewOp::Reshape, self, shape))
        })
    }

    /// Axes `start ..= end` (negative from the end) merged into one.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3, 4], DType::F32).flatten(1, -1).shape()?, &[2, 12]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn flatten(&self, start: i64, end: i64) -> Array {
        attempt(|| {
            self.check()?;
            let rank = self.0.shape.len();
            if rank == 0 {
                return Ok(self.reshape([1]));
            }
            let (a, b) = (axis_of("flatten", start, self)?, axis_of("flatten", end, self)?);
            if a > b {
                return Err(error(ErrorKind::Axis, "flatten", "start lies after end", &[self]));
            }
            let shape = &self.0.shape;
            let merged: usize = shape[a..=b].iter().product();
            let dims =
                shape[..a].iter().copied().chain([merged]).chain(shape[b + 1..].iter().copied());
            Ok(self.reshape(&dims.collect::<Shape>()))
        })
    }

    /// One axis split into several; one of them may be -1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 12], DType::F32).unflatten(1, [3, -1]).shape()?, &[2, 3, 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn unflatten(&self, axis: i64, shape: impl IntoInts) -> Array {
        let mut parts = shape.into_ints();
        attempt(|| {
            self.check()?;
            let axis = axis_of("unflatten", axis, self)?;
            let n = self.0.shape[axis] as i64;
            if let Some(at) = parts.iter().position(|&d| d == -1) {
                let others = parts.iter().filter(|&&d| d != -1);
                let rest = others.fold(1i64, |p, &d| p.saturating_mul(d));
                if rest <= 0 || n % rest != 0 {
                    let why = format!("axis of length {n} does not divide into {parts:?}");
                    return Err(error(ErrorKind::Shape, "unflatten", why, &[self]));
                }
                parts[at] = n / rest;
            }
            let product = parts.iter().fold(1i64, |p, &d| p.saturating_mul(d));
            if product != n || parts.iter().any(|&d| d < 0) {
                let why = format!("axis of length {n} does not split into {parts:?}");
                return Err(error(ErrorKind::Shape, "unflatten", why, &[self]));
            }
            let mut dims: Shape = self.0.shape[..axis].into();
            parts.iter().for_each(|&d| dims.push(d as usize));
            self.0.shape[axis + 1..].iter().for_each(|&d| dims.push(d));
            Ok(self.reshape(&dims))
        })
    }

    /// New axes of length one at the given positions of the result (negative from its end).
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros(3, DType::F32).expand_dims([0, -1]).shape()?, &[1, 3, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn expand_dims(&self, axes: impl IntoInts) -> Array {
        let axes = axes.into_ints();
        attempt(|| {
            self.check()?;
            let axes = axes_in("expand_dims", &axes, self.0.shape.len() + axes.len(), self)?;
            let mut shape = self.0.shape.clone();
            axes.iter().for_each(|&a| shape.insert(a, 1));
            Ok(self.reshape(&shape))
        })
    }

    /// Axes of length one removed: those given, or all of them for `()`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([1, 3, 1], DType::F32).squeeze(()).shape()?, &[3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn squeeze(&self, axes: impl IntoInts) -> Array {
        let axes = axes.into_ints();
        attempt(|| {
            self.check()?;
            let shape = &self.0.shape;
            let axes = if axes.is_empty() {
                (0..shape.len()).filter(|&i| shape[i] == 1).collect()
            } else {
                axes_of("squeeze", &axes, self)?
            };
            if let Some(a) = axes.iter().find(|&&a| shape[a] != 1) {
                let why = format!("axis {a} has length {}, not 1", shape[*a]);
                return Err(error(ErrorKind::Shape, "squeeze", why, &[self]));
            }
            let kept = shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &d)| d);
            Ok(self.reshape(&kept.collect::<Shape>()))
        })
    }

    /// Axes in another order: axis `i` of the result is axis `axes[i]`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3, 4], DType::F32).transpose([2, 0, 1]).shape()?, &[4, 2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn transpose(&self, axes: impl IntoInts) -> Array {
        let axes = axes.into_ints();
        attempt(|| {
            self.check()?;
            let rank = self.0.shape.len();
            let order =
                axes.iter().map(|&a| axis_of("transpose", a, self)).collect::<Result<Vec<_>>>()?;
            let mut seen = order.clone();
            seen.sort_unstable();
            if !seen.iter().copied().eq(0..rank) {
                let why = format!("{axes:?} is not an order of {rank} axes");
                return Err(error(ErrorKind::Axis, "transpose", why, &[self]));
            }
            if order.iter().copied().eq(0..rank) {
                return Ok(self.clone());
            }
            let shape = order.iter().map(|&a| self.0.shape[a]).collect();
            let perm: Axes = order.iter().map(|&a| a as u8).collect();
            Ok(view(ViewOp::Transpose(perm), self, shape))
        })
    }

    /// All axes in reverse order.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3, 4], DType::F32).t().shape()?, &[4, 3, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn t(&self) -> Array {
        let rank = self.0.shape.len() as i64;
        self.transpose((0..rank).rev().collect::<Vec<_>>())
    }

    /// The last two axes swapped.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3, 4], DType::F32).mt().shape()?, &[2, 4, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn mt(&self) -> Array {
        self.swapaxes(-1, -2)
    }

    /// Two axes swapped.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3, 4], DType::F32).swapaxes(0, -1).shape()?, &[4, 3, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn swapaxes(&self, a: i64, b: i64) -> Array {
        attempt(|| {
            self.check()?;
            let rank = self.0.shape.len();
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(axis_of("swapaxes", a, self)?, axis_of("swapaxes", b, self)?);
            Ok(self.transpose(&order))
        })
    }

    /// One axis moved to another position.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3, 4], DType::F32).moveaxis(0, -1).shape()?, &[3, 4, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn moveaxis(&self, from: i64, to: i64) -> Array {
        attempt(|| {
            self.check()?;
            let rank = self.0.shape.len();
            let (from, to) = (axis_of("moveaxis", from, self)?, axis_of("moveaxis", to, self)?);
            let mut order: Vec<usize> = (0..rank).filter(|&i| i != from).collect();
            order.insert(to, from);
            Ok(self.transpose(&order))
        })
    }

    /// The array repeated along axes of length one, and along new leading axes, to `shape`. Takes no
    /// memory.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::I32).broadcast_to([2, 2]).to_vec::<i32>()?, [0, 1, 0, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoInts) -> Array {
        let site = call_site();
        attempt(|| {
            self.check()?;
            let shape = checked_shape("broadcast_to", shape)?;
            if Shape::broadcast(&self.0.shape, &shape).as_ref() != Some(&shape) {
                let why = format!("does not broadcast to {shape}");
                return Err(error(ErrorKind::Shape, "broadcast_to", why, &[self]));
            }
            Ok(broadcast_unchecked(self, &shape, site))
        })
    }

    /// The elements `start, start + step, …` below `stop` (above it for a negative step) along one
    /// axis. Negative bounds count from the end; bounds beyond the axis are cut to it, as in Python.
    /// `None` stands for the natural end.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(5, DType::I32);
    /// assert_eq!(x.slice_step(0, None, None, -2).to_vec::<i32>()?, [4, 2, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn slice_step(
        &self,
        axis: i64,
        start: impl Into<Option<i64>>,
        stop: impl Into<Option<i64>>,
        step: i64,
    ) -> Array {
        let (start, stop) = (start.into(), stop.into());
        attempt(|| {
            self.check()?;
            let axis = axis_of("slice", axis, self)?;
            let (first, count) = python_slice(self.0.shape[axis], start, stop, step)?;
            let mut shape = self.0.shape.clone();
            shape[axis] = count;
            if count == self.0.shape[axis] && step == 1 {
                return Ok(self.clone());
            }
            let mut starts = vec![0i64; shape.len()];
            let mut steps = vec![1i64; shape.len()];
            // The step from a single element leads nowhere, and may be too long to multiply.
            (starts[axis], steps[axis]) = (first, if count > 1 { step } else { 1 });
            Ok(view(ViewOp::Slice { starts: starts.into(), steps: steps.into() }, self, shape))
        })
    }

    /// The elements from `start` up to but without `stop` along one axis; see [`Array::slice_step`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(5, DType::I32).slice_axis(0, 1, -1).to_vec::<i32>()?, [1, 2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn slice_axis(
        &self,
        axis: i64,
        start: impl Into<Option<i64>>,
        stop: impl Into<Option<i64>>,
    ) -> Array {
        self.slice_step(axis, start, stop, 1)
    }

    /// The slice at one index of an axis, which goes away. The index must be in bounds; negative
    /// ones count from the end.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(4, DType::I32).reshape([2, 2]);
    /// assert_eq!(x.at_index(0, -1).to_vec::<i32>()?, [2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn at_index(&self, axis: i64, index: i64) -> Array {
        attempt(|| {
            self.check()?;
            let axis = axis_of("index", axis, self)?;
            let n = self.0.shape[axis] as i64;
            let at = if index < 0 { index + n } else { index };
            if !(0..n).contains(&at) {
                let why = format!("index {index} is out of bounds for axis {axis} of length {n}");
                return Err(error(ErrorKind::Index, "index", why, &[self]));
            }
            Ok(self.slice_axis(axis as i64, at, at + 1).squeeze(axis))
        })
    }

    /// Elements in reverse order along axes (`()` for all).
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(3, DType::I32).flip(0).to_vec::<i32>()?, [2, 1, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn flip(&self, axes: impl IntoInts) -> Array {
        let axes = axes.into_ints();
        attempt(|| {
            self.check()?;
            let rank = self.0.shape.len();
            let axes =
                if axes.is_empty() { (0..rank).collect() } else { axes_of("flip", &axes, self)? };
            Ok(axes.iter().fold(self.clone(), |x, &a| x.slice_step(a as i64, None, None, -1)))
        })
    }

    /// Equal parts along an axis, whose length must be a multiple of `parts`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let parts = arange(4, DType::I32).split(2, 0)?;
    /// assert_eq!(parts[1].to_vec::<i32>()?, [2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`], for a bad axis, and where the length does not divide.
    #[track_caller]
    pub fn split(&self, parts: usize, axis: i64) -> Result<Vec<Array>> {
        let n = self.dim(axis)?;
        if parts == 0 || n % parts != 0 {
            let why = format!("length {n} does not divide into {parts} equal parts");
            return Err(error(ErrorKind::Shape, "split", why, &[self]).at(call_site()));
        }
        let cuts: Vec<usize> = (1..parts).map(|i| i * (n / parts)).collect();
        self.split_at(&cuts, axis)
    }

    /// Parts along an axis, cut at the given indices.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let parts = arange(4, DType::I32).split_at(&[1], 0)?;
    /// assert_eq!(parts[1].to_vec::<i32>()?, [1, 2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`], and for a bad axis.
    #[track_caller]
    pub fn split_at(&self, cuts: &[usize], axis: i64) -> Result<Vec<Array>> {
        let n = self.dim(axis)?;
        let mut parts = Vec::with_capacity(cuts.len() + 1);
        let mut from = 0;
        for &cut in cuts.iter().chain([&n]) {
            let to = cut.min(n);
            parts.push(self.slice_axis(axis, from as i64, to.max(from) as i64));
            from = to.max(from);
        }
        Ok(parts)
    }

    /// The slices along an axis, which goes away; also what iterating over an array means.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let rows = arange(4, DType::I32).reshape([2, 2]).unstack(0)?;
    /// assert_eq!(rows[1].to_vec::<i32>()?, [2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`], and for a bad axis.
    #[track_caller]
    pub fn unstack(&self, axis: i64) -> Result<Vec<Array>> {
        let n = self.dim(axis)?;
        Ok((0..n as i64).map(|i| self.at_index(axis, i)).collect())
    }

    /// The array with at least one axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(Array::scalar(1.0f32).atleast_1d().shape()?, &[1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn atleast_1d(&self) -> Array {
        if self.0.shape.is_empty() { self.reshape([1]) } else { self.clone() }
    }

    /// The array with at least two axes: a vector becomes a row.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros(3, DType::F32).atleast_2d().shape()?, &[1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn atleast_2d(&self) -> Array {
        match self.0.shape[..] {
            [] => self.reshape([1, 1]),
            [n] => self.reshape([1, n]),
            _ => self.clone(),
        }
    }

    /// The array with at least three axes: a vector gets one on either side, a matrix one at the end.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros(3, DType::F32).atleast_3d().shape()?, &[1, 3, 1]);
    /// assert_eq!(zeros([2, 3], DType::F32).atleast_3d().shape()?, &[2, 3, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn atleast_3d(&self) -> Array {
        match self.0.shape[..] {
            [] => self.reshape([1, 1, 1]),
            [n] => self.reshape([1, n, 1]),
            [n, m] => self.reshape([n, m, 1]),
            _ => self.clone(),
        }
    }

    /// The array turned by `quarters` of a circle in the plane of two axes, from the first toward the
    /// second.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(4, DType::I32).reshape([2, 2]);
    /// assert_eq!(x.rot90(1, [0, 1]).to_vec::<i32>()?, [1, 3, 0, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn rot90(&self, quarters: i64, axes: [i64; 2]) -> Array {
        attempt(|| {
            self.check()?;
            let (a, b) = (axis_of("rot90", axes[0], self)?, axis_of("rot90", axes[1], self)?);
            if a == b {
                return Err(error(ErrorKind::Axis, "rot90", "the axes must differ", &[self]));
            }
            let swap = |x: &Array| x.swapaxes(a as i64, b as i64);
            Ok(match quarters.rem_euclid(4) {
                0 => self.clone(),
                1 => swap(&self.flip(b)),
                2 => self.flip([a, b]),
                _ => swap(self).flip(b),
            })
        })
    }

    /// The same bytes as another dtype; the last axis is rescaled by the ratio of sizes.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(Array::scalar(1.0f32).view(DType::U32).item::<u32>()?, 0x3f80_0000);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn view(&self, dtype: DType) -> Array {
        attempt(|| {
            self.check()?;
            let (a, b) = (self.0.dtype.size(), dtype.size());
            if self.0.dtype == dtype {
                return Ok(self.clone());
            }
            if dtype == DType::Bool {
                return Err(error(
                    ErrorKind::DType,
                    "view",
                    "bytes cannot be viewed as bool",
                    &[self],
                ));
            }
            let mut shape = self.0.shape.clone();
            match shape.last_mut() {
                Some(d) if *d * a % b == 0 => *d = *d * a / b,
                None if a == b => {}
                _ => {
                    let why = format!("the last axis is not a whole number of {dtype}");
                    return Err(error(ErrorKind::Shape, "view", why, &[self]));
                }
            }
            Ok(prim(Prim::View(ViewOp::Bitcast), [self.clone()], shape, dtype))
        })
    }

    /// The elements in row-major order in memory of their own.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(4, DType::I32).reshape([2, 2]).t().contiguous();
    /// assert_eq!(x.to_vec::<i32>()?, [0, 2, 1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn contiguous(&self) -> Array {
        if self.0.failed {
            return self.clone();
        }
        prim(Prim::Copy, [self.clone()], self.0.shape.clone(), self.0.dtype)
    }
}

/// First index and count of a Python slice of an axis of length `n`.
pub(crate) fn python_slice(
    n: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> Result<(i64, usize)> {
    if step == 0 || step == i64::MIN {
        return Err(Error::new(ErrorKind::Value, "slice", format!("step {step} is not allowed")));
    }
    let n = n as i64;
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let bound = |b: Option<i64>, natural: i64| match b {
        None => natural,
        Some(b) => (if b < 0 { b.saturating_add(n) } else { b }).clamp(low, high),
    };
    let (first, end) = if step > 0 {
        (bound(start, 0), bound(stop, n))
    } else {
        (bound(start, n - 1), bound(stop, -1))
    };
    let span = if step > 0 { end - first } else { first - end };
    let count = if span <= 0 { 0 } else { (span - 1) / step.abs() + 1 };
    Ok((if count == 0 { 0 } else { first }, count as usize))
}

/// Arrays broadcast to their common shape.
///
/// ```
/// use lazul_core::prelude::*;
/// let both = broadcast_arrays(&[zeros([2, 1], DType::F32), zeros(3, DType::F32)])?;
/// assert_eq!(both[0].shape()?, &[2, 3]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If an array failed, or the shapes do not broadcast.
#[track_caller]
pub fn broadcast_arrays(arrays: &[Array]) -> Result<Vec<Array>> {
    let mut shape = Shape::scalar();
    for a in arrays {
        a.check()?;
        shape = Shape::broadcast(&shape, &a.0.shape).ok_or_else(|| {
            let all: Vec<&Array> = arrays.iter().collect();
            error(ErrorKind::Shape, "broadcast_arrays", "shapes cannot be broadcast", &all)
                .at(call_site())
        })?;
    }
    Ok(arrays.iter().map(|a| a.broadcast_to(&shape)).collect())
}

/// The shape that arrays of these shapes broadcast to: axes are matched from the last, and those of
/// length one, or missing, take the others' length.
///
/// ```
/// use lazul_core::broadcast_shapes;
/// assert_eq!(broadcast_shapes(&[&[2, 1], &[3]])?, [2, 3]);
/// assert!(broadcast_shapes(&[&[2], &[3]]).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If lengths of an axis differ and neither is one.
#[track_caller]
pub fn broadcast_shapes(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let mut out = Shape::scalar();
    for shape in shapes {
        out = Shape::broadcast(&out, shape).ok_or_else(|| {
            let all: Vec<String> = shapes.iter().map(|s| Shape::new(s).to_string()).collect();
            let why = format!("shapes {} cannot be broadcast", all.join(", "));
            Error::new(ErrorKind::Shape, "broadcast_shapes", why).at(call_site())
        })?;
    }
    Ok(out.to_vec())
}
