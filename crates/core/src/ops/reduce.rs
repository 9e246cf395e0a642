//! Reductions over axes: sums, extremes, truth, moments, positions of extremes.

pub(crate) mod rules;

use super::{attempt, axes_of, axis_of, error, prim};
use crate::error::{ErrorKind, Result};
use crate::ints::{IntoAxes, Ints};
use crate::node::Array;
use lazul_ir::{ArgReduceOp, Axes, DType, FastOp, Prim, ReduceOp, Shape, dtype::Kind};

/// The axes asked for, ascending; all of them for `None`.
pub(crate) fn resolve(op: &'static str, axes: &Option<Ints>, x: &Array) -> Result<Vec<usize>> {
    match axes {
        Some(axes) => axes_of(op, axes, x),
        None => Ok((0..x.0.shape.len()).collect()),
    }
}

pub(crate) fn reduced(shape: &Shape, axes: &[usize]) -> Shape {
    let mut out = shape.clone();
    axes.iter().for_each(|&a| out[a] = 1);
    out
}

/// Drops the axes of length one that a reduction left, unless they are to stay.
#[track_caller]
pub(crate) fn finish(x: Array, axes: &[usize], keepdims: bool) -> Array {
    if keepdims {
        return x;
    }
    let shape: Shape =
        x.0.shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &d)| d).collect();
    x.reshape(&shape)
}

/// What sums and products of a dtype are held in.
fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::Bool | DType::I8 | DType::I16 => DType::I32,
        DType::U8 | DType::U16 => DType::U32,
        d => d,
    }
}

/// The dtype in which means and moments of a dtype are computed.
pub(crate) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        d => d.to_inexact(),
    }
}

#[track_caller]
fn reduce(
    op: ReduceOp,
    x: &Array,
    axes: impl IntoAxes,
    keepdims: bool,
    to: Option<DType>,
) -> Array {
    let axes = axes.into_axes();
    attempt(|| {
        x.check()?;
        let axes = resolve(op.name(), &axes, x)?;
        let dtype = to.unwrap_or(match op {
            ReduceOp::Sum | ReduceOp::Prod => accumulator(x.0.dtype),
            ReduceOp::Min | ReduceOp::Max => x.0.dtype,
            ReduceOp::All | ReduceOp::Any => DType::Bool,
        });
        if matches!(op, ReduceOp::Min | ReduceOp::Max) {
            if x.0.dtype.kind() == Kind::Complex {
                return Err(error(ErrorKind::DType, op.name(), "complex has no order", &[x]));
            }
            if let Some(&a) = axes.iter().find(|&&a| x.0.shape[a] == 0) {
                let why = format!("axis {a} is empty, and an empty {} has no value", op.name());
                return Err(error(ErrorKind::Shape, op.name(), why, &[x]));
            }
        }
        if axes.is_empty() {
            return Ok(x.astype(dtype));
        }
        let shape = reduced(&x.0.shape, &axes);
        let packed: Axes = axes.iter().map(|&a| a as u8).collect();
        let out = prim(Prim::Reduce { op, axes: packed }, [x.clone()], shape, dtype);
        Ok(finish(out, &axes, keepdims))
    })
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident $keep:ident $op:ident;)*) => {
        impl Array {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, axes: impl IntoAxes) -> Array {
                reduce(ReduceOp::$op, self, axes, false, None)
            }

            #[doc = concat!("As [`Array::", stringify!($name), "`]; reduced axes stay with length 1.")]
            ///
            /// ```
            /// use lazul_core::prelude::*;
            /// let x = ones([2, 3], DType::F32);
            #[doc = concat!("assert_eq!(x.", stringify!($keep), "(1).shape()?, [2, 1]);")]
            /// # Ok::<(), lazul_core::Error>(())
            /// ```
            #[track_caller]
            pub fn $keep(&self, axes: impl IntoAxes) -> Array {
                reduce(ReduceOp::$op, self, axes, true, None)
            }
        )*}
    };
}
reductions! {
    /// Sum over axes (`..` for all); 0 for none. bool, i8 and i16 give i32, u8 and u16 give u32;
    /// f16 and bf16 accumulate in f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.sum(0).to_vec::<f32>()?, [4.0, 6.0]);
    /// assert_eq!(x.sum_keepdims(..).shape()?, &[1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    sum sum_keepdims Sum;
    /// Product over axes (`..` for all); 1 for none. Dtypes as [`Array::sum`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.prod(0).to_vec::<f32>()?, [3.0, 8.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    prod prod_keepdims Prod;
    /// Smallest element over axes (`..` for all); NaN if any is. Not over an empty axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.min(1).to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    min min_keepdims Min;
    /// Largest element over axes (`..` for all); NaN if any is. Not over an empty axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.max(..).item::<f32>()?, 4.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    max max_keepdims Max;
    /// Whether all elements are true over axes (`..` for all), as bool.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.greater(1.0).all(1).to_vec::<bool>()?, [false, true]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    all all_keepdims All;
    /// Whether any element is true over axes (`..` for all), as bool.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.greater(3.0).any(1).to_vec::<bool>()?, [false, true]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    any any_keepdims Any;
}

macro_rules! moments {
    ($($(#[$doc:meta])* $name:ident $keep:ident ($($arg:ident : $ty:ty = $example:literal),*) $f:ident;)*) => {
        impl Array {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, axes: impl IntoAxes $(, $arg: $ty)*) -> Array {
                self.$f(axes.into_axes(), false $(, $arg)*)
            }

            #[doc = concat!("As [`Array::", stringify!($name), "`]; reduced axes stay with length 1.")]
            ///
            /// ```
            /// use lazul_core::prelude::*;
            /// let x = ones([2, 3], DType::F32);
            #[doc = concat!("let y = x.", stringify!($keep), "(1" $(, ", ", stringify!($example))*, ");")]
            /// assert_eq!(y.shape()?, [2, 1]);
            /// # Ok::<(), lazul_core::Error>(())
            /// ```
            #[track_caller]
            pub fn $keep(&self, axes: impl IntoAxes $(, $arg: $ty)*) -> Array {
                self.$f(axes.into_axes(), true $(, $arg)*)
            }
        )*}
    };
}
moments! {
    /// Mean over axes (`..` for all); NaN for none. Integers and bool give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.mean(0).to_vec::<f32>()?, [2.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    mean mean_keepdims () mean_with;
    /// Variance over axes (`..` for all), divided by the count less `ddof`. Integers give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.var(0, 0).to_vec::<f32>()?, [1.0, 1.0]);
    /// assert_eq!(x.var(0, 1).to_vec::<f32>()?, [2.0, 2.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    var var_keepdims (ddof: usize = 0) var_with;
    /// Standard deviation over axes (`..` for all); see [`Array::var`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.std(0, 0).to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    std std_keepdims (ddof: usize = 0) std_with;
    /// `log(sum(exp(x)))` over axes (`..` for all) without overflow. Integers give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1000.0f32, 1000.0], [2]);
    /// assert_eq!(x.logsumexp(..).round(3).item::<f32>()?, 1000.693);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    logsumexp logsumexp_keepdims () logsumexp_with;
    /// Median over axes (`..` for all): the mean of the middle two for an even count. Integers give
    /// f32. NaN if any element is.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.median(..).item::<f32>()?, 2.5);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    median median_keepdims () median_with;
}

impl Array {
    #[track_caller]
    fn mean_with(&self, axes: Option<Ints>, keepdims: bool) -> Array {
        attempt(|| {
            self.check()?;
            let resolved = resolve("mean", &axes, self)?;
            let count: usize = resolved.iter().map(|&a| self.0.shape[a]).product();
            let out = self.0.dtype.to_inexact();
            let sum = reduce(ReduceOp::Sum, self, AsAxes(axes), keepdims, Some(wide(out)));
            Ok((sum / count as f64).astype(out))
        })
    }

    #[track_caller]
    fn var_with(&self, axes: Option<Ints>, keepdims: bool, ddof: usize) -> Array {
        attempt(|| {
            self.check()?;
            let resolved = resolve("var", &axes, self)?;
            let count: usize = resolved.iter().map(|&a| self.0.shape[a]).product();
            let out = self.0.dtype.to_inexact();
            if out == DType::C64 {
                let why = "the variance of complex numbers is not defined here";
                return Err(error(ErrorKind::DType, "var", why, &[self]));
            }
            let x = self.astype(wide(out));
            let centred = &x - x.mean_with(axes.clone(), true);
            let sum = reduce(ReduceOp::Sum, &centred.square(), AsAxes(axes), keepdims, None);
            Ok((sum / (count as f64 - ddof as f64).max(0.0)).astype(out))
        })
    }

    #[track_caller]
    fn std_with(&self, axes: Option<Ints>, keepdims: bool, ddof: usize) -> Array {
        self.var_with(axes, keepdims, ddof).sqrt()
    }

    #[track_caller]
    fn logsumexp_with(&self, axes: Option<Ints>, keepdims: bool) -> Array {
        attempt(|| {
            self.check()?;
            let axes = resolve("logsumexp", &axes, self)?;
            let dtype = self.0.dtype.to_inexact();
            if dtype == DType::C64 {
                return Err(error(
                    ErrorKind::DType,
                    "logsumexp",
                    "is not defined for complex64",
                    &[self],
                ));
            }
            if axes.is_empty() {
                return Ok(self.astype(dtype));
            }
            let (flat, _) = self.astype(dtype).axes_last(&axes);
            let mut shape = flat.0.shape.clone();
            let last = shape.len() - 1;
            shape[last] = 1;
            let out = prim(Prim::Fast(FastOp::LogSumExp), [flat], shape, dtype);
            let out = out.reshape(&reduced(&self.0.shape, &axes));
            Ok(finish(out, &axes, keepdims))
        })
    }

    #[track_caller]
    fn median_with(&self, axes: Option<Ints>, keepdims: bool) -> Array {
        attempt(|| {
            self.check()?;
            let axes = resolve("median", &axes, self)?;
            let dtype = self.0.dtype.to_inexact();
            let (flat, _) = self.astype(dtype).axes_last(&axes);
            let n = flat.dim(-1)?;
            if n == 0 {
                return Err(error(ErrorKind::Shape, "median", "there are no elements", &[self]));
            }
            let sorted = flat.sort(-1);
            let last = flat.ndim()? - 1;
            let at = |i: usize| sorted.slice_axis(last as i64, i as i64, i as i64 + 1);
            let middle =
                (at((n - 1) / 2).astype(wide(dtype)) + at(n / 2).astype(wide(dtype))) * 0.5;
            // NaN sorts last, so one look there tells.
            let end = at(n - 1).astype(wide(dtype));
            let out = crate::ops::elementwise::where_(end.isnan(), &end, middle).astype(dtype);
            Ok(finish(out.reshape(&reduced(&self.0.shape, &axes)), &axes, keepdims))
        })
    }

    /// Number of elements that are not zero, over axes (`..` for all), as i32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(4, DType::F32).count_nonzero(..).item::<i32>()?, 3);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn count_nonzero(&self, axes: impl IntoAxes) -> Array {
        self.astype(DType::Bool).sum(axes)
    }

    /// As [`Array::count_nonzero`]; reduced axes stay with length 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(4, DType::F32).count_nonzero_keepdims(..).shape()?, &[1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn count_nonzero_keepdims(&self, axes: impl IntoAxes) -> Array {
        self.astype(DType::Bool).sum_keepdims(axes)
    }

    /// `(min, max)` over axes (`..` for all).
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (low, high) = arange(4, DType::I32).minmax(..);
    /// assert_eq!((low.item::<i32>()?, high.item::<i32>()?), (0, 3));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn minmax(&self, axes: impl IntoAxes) -> (Array, Array) {
        let axes = axes.into_axes();
        (self.min(AsAxes(axes.clone())), self.max(AsAxes(axes)))
    }

    /// As [`Array::minmax`]; reduced axes stay with length 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (low, _) = arange(4, DType::I32).minmax_keepdims(0);
    /// assert_eq!(low.shape()?, &[1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn minmax_keepdims(&self, axes: impl IntoAxes) -> (Array, Array) {
        let axes = axes.into_axes();
        (self.min_keepdims(AsAxes(axes.clone())), self.max_keepdims(AsAxes(axes)))
    }

    /// Index of the smallest element along an axis, as u32: the first NaN if there is one, else the
    /// first smallest. Not over an empty axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[2.0f32, 1.0, 3.0], [3]);
    /// assert_eq!(x.argmin(0).item::<u32>()?, 1);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argmin(&self, axis: i64) -> Array {
        arg_reduce(ArgReduceOp::ArgMin, self, axis, false)
    }

    /// As [`Array::argmin`]; the axis stays with length 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3], DType::F32).argmin_keepdims(1).shape()?, &[2, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argmin_keepdims(&self, axis: i64) -> Array {
        arg_reduce(ArgReduceOp::ArgMin, self, axis, true)
    }

    /// Index of the largest element along an axis, as u32: the first NaN if there is one, else the
    /// first largest. Not over an empty axis.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 5.0, 3.0], [3]);
    /// assert_eq!(x.argmax(-1).item::<u32>()?, 1);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argmax(&self, axis: i64) -> Array {
        arg_reduce(ArgReduceOp::ArgMax, self, axis, false)
    }

    /// As [`Array::argmax`]; the axis stays with length 1.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3], DType::F32).argmax_keepdims(0).shape()?, &[1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn argmax_keepdims(&self, axis: i64) -> Array {
        arg_reduce(ArgReduceOp::ArgMax, self, axis, true)
    }

    /// The array with `axes` moved to the end and flattened into one, and the permutation that did
    /// it.
    #[track_caller]
    pub(crate) fn axes_last(&self, axes: &[usize]) -> (Array, Vec<usize>) {
        let rank = self.0.shape.len();
        let mut perm: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
        let lead: Shape = perm.iter().map(|&a| self.0.shape[a]).collect();
        perm.extend_from_slice(axes);
        let mut shape = lead;
        shape.push(axes.iter().map(|&a| self.0.shape[a]).product());
        (self.transpose(&perm).reshape(&shape), perm)
    }
}

/// Axes that were resolved from the caller's words already.
struct AsAxes(Option<Ints>);

impl IntoAxes for AsAxes {
    fn into_axes(self) -> Option<Ints> {
        self.0
    }
}

#[track_caller]
fn arg_reduce(op: ArgReduceOp, x: &Array, axis: i64, keepdims: bool) -> Array {
    let name = if op == ArgReduceOp::ArgMin { "argmin" } else { "argmax" };
    attempt(|| {
        x.check()?;
        let axis = axis_of(name, axis, x)?;
        if x.0.dtype.kind() == Kind::Complex {
            return Err(error(ErrorKind::DType, name, "complex has no order", &[x]));
        }
        if x.0.shape[axis] == 0 || x.0.shape[axis] > u32::MAX as usize {
            return Err(error(ErrorKind::Shape, name, "the axis is empty or beyond u32", &[x]));
        }
        let shape = reduced(&x.0.shape, &[axis]);
        let out = prim(Prim::ArgReduce { op, axis: axis as u8 }, [x.clone()], shape, DType::U32);
        Ok(finish(out, &[axis], keepdims))
    })
}
