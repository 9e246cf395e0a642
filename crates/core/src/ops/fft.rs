//! Fourier transforms: one axis or several, complex or real, and what belongs to them.
//!
//! Everything is single precision: real input is taken as f32, complex input is complex64, and results
//! are complex64, or f32 where they are real. There is no complex128, so f64 loses precision here, as
//! in MLX. Any length is allowed but zero.
//!
//! ```
//! use lazul_core::prelude::*;
//! let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [4]);
//! let spectrum = fft::rfft(&x, fft::Fft::default());
//! assert_eq!(spectrum.shape()?, &[3]);
//! let back = fft::irfft(&spectrum, fft::Fft::default());
//! assert!(back.allclose(&x, Tolerance::default()).item::<bool>()?);
//! # Ok::<(), lazul_core::Error>(())
//! ```

use super::{attempt, axis_of, error, prim};
use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoAxes;
use crate::node::Array;
use crate::ops::creation::arange;
use crate::ops::join::Pad;
use lazul_ir::{DType, F32Bits, FftKind, Prim};

pub(crate) mod rules;
mod stft;
pub use stft::{Istft, PadMode, Stft, istft, stft};

/// Which direction divides by the number of points, so that there and back is the identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Norm {
    /// The inverse transform, by `n`.
    #[default]
    Backward,
    /// Both, by `√n`: the transform keeps lengths of vectors.
    Ortho,
    /// The forward transform, by `n`.
    Forward,
}

impl Norm {
    /// The factor of a transform of `n` points.
    fn scale(self, n: usize, inverse: bool) -> f32 {
        let n = n as f64;
        (match (self, inverse) {
            (Norm::Ortho, _) => n.sqrt().recip(),
            (Norm::Backward, true) | (Norm::Forward, false) => n.recip(),
            (Norm::Backward, false) | (Norm::Forward, true) => 1.0,
        }) as f32
    }
}

/// How a transform along one axis is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fft {
    /// Number of points: the axis is cut, or continued with zeros, to have as many. `None` takes the
    /// axis as it is. For [`irfft`] this is the length of the *output*; `None` is `2·(length - 1)`.
    pub n: Option<usize>,
    /// The axis, negative from the end.
    pub axis: i64,
    /// What is divided by the number of points.
    pub norm: Norm,
}

impl Default for Fft {
    /// The last axis as it is, the inverse divided by its length.
    fn default() -> Fft {
        Fft { n: None, axis: -1, norm: Norm::Backward }
    }
}

/// How a transform along several axes is taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fftn {
    /// Number of points along each of the axes; see [`Fft::n`]. `None` takes the axes as they are.
    pub s: Option<Vec<usize>>,
    /// The axes, negative from the end. `None` is the last two for [`fft2`] and its kin; for [`fftn`]
    /// and its kin the last `s.len()` axes, or all of them without `s`.
    pub axes: Option<Vec<i64>>,
    /// What is divided by the number of points.
    pub norm: Norm,
}

macro_rules! one {
    ($($(#[$doc:meta])* $name:ident $kind:ident;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(x: &Array, how: Fft) -> Array {
            attempt(|| {
                x.check()?;
                let axis = axis_of(stringify!($name), how.axis, x)?;
                along(stringify!($name), FftKind::$kind, x, axis, how.n, how.norm)
            })
        }
    )*};
}
one! {
    /// The discrete Fourier transform along an axis: complex64 of the same shape, or with `n` entries
    /// along the axis. Any dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 0.0, 0.0], [3]);
    /// let y = fft::fft(&x, fft::Fft::default());
    /// assert_eq!(y.to_vec::<Complex32>()?, [Complex32::new(1.0, 0.0); 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    fft Forward;
    /// The inverse of [`fft`]: complex64. Any dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let y = fft::ifft(&ones([4], DType::F32), fft::Fft::default());
    /// assert_eq!(y.real().to_vec::<f32>()?, [1.0, 0.0, 0.0, 0.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ifft Inverse;
    /// The first `n/2 + 1` entries of the Fourier transform of `n` real numbers along an axis; the
    /// others are their conjugates. complex64. Any dtype but complex64.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let how = fft::Fft { n: Some(8), ..Default::default() };
    /// assert_eq!(fft::rfft(&zeros([2, 5], DType::F16), how).shape()?, &[2, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    rfft RealToHalf;
    /// The inverse of [`rfft`]: `n` real numbers (f32) from the first `n/2 + 1` entries of their
    /// transform. The length of an axis does not tell whether `n` was even, so give an odd `n`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(5, DType::F32);
    /// let y = fft::rfft(&x, fft::Fft::default());
    /// let x = fft::irfft(&y, fft::Fft { n: Some(5), ..Default::default() });
    /// assert_eq!(x.round(4).to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    irfft HalfToReal;
}

macro_rules! several {
    ($($(#[$doc:meta])* $name:ident $two:ident $kind:ident;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(x: &Array, how: &Fftn) -> Array {
            attempt(|| {
                x.check()?;
                let (axes, s) = resolve(stringify!($name), x, how, false)?;
                over(stringify!($name), FftKind::$kind, x, &axes, &s, how.norm)
            })
        }

        #[doc = concat!("As [`", stringify!($name), "`], over the last two axes if none are given.")]
        ///
        /// ```
        /// use lazul_core::prelude::*;
        /// let x = (arange(24, DType::F32).sin()).reshape([2, 3, 4]);
        /// let both = fft::Fftn { axes: Some(vec![1, 2]), ..Default::default() };
        #[doc = concat!("let two = fft::", stringify!($two), "(&x, &fft::Fftn::default());")]
        #[doc = concat!("assert_eq!(two.to_bytes()?, fft::", stringify!($name), "(&x, &both).to_bytes()?);")]
        /// # Ok::<(), lazul_core::Error>(())
        /// ```
        #[track_caller]
        pub fn $two(x: &Array, how: &Fftn) -> Array {
            attempt(|| {
                x.check()?;
                let (axes, s) = resolve(stringify!($two), x, how, true)?;
                over(stringify!($two), FftKind::$kind, x, &axes, &s, how.norm)
            })
        }
    )*};
}
several! {
    /// The Fourier transform along several axes: complex64. Any dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = ones([2, 3, 4], DType::F32);
    /// let how = fft::Fftn { axes: Some(vec![0, 2]), ..Default::default() };
    /// assert_eq!(fft::fftn(&x, &how).real().max(..).item::<f32>()?, 8.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    fftn fft2 Forward;
    /// The inverse of [`fftn`]: complex64. Any dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let how = fft::Fftn::default();
    /// let x = arange(6, DType::F32).reshape([2, 3]);
    /// let again = fft::ifftn(&fft::fftn(&x, &how), &how).real().round(4);
    /// assert_eq!(again.to_vec::<f32>()?, x.to_vec::<f32>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ifftn ifft2 Inverse;
    /// The Fourier transform of real numbers along several axes, the last of which is as [`rfft`]'s:
    /// `n/2 + 1` entries. complex64. Any dtype but complex64.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([4, 6, 8], DType::F32);
    /// assert_eq!(fft::rfft2(&x, &fft::Fftn::default()).shape()?, &[4, 6, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    rfftn rfft2 RealToHalf;
    /// The inverse of [`rfftn`]: f32. The last of the axes is as [`irfft`]'s, so give `s` where it was
    /// odd.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::F32).reshape([2, 3]);
    /// let half = fft::rfftn(&x, &fft::Fftn::default());
    /// let odd = fft::Fftn { s: Some(vec![2, 3]), ..Default::default() };
    /// assert_eq!(fft::irfftn(&half, &odd).round(4).to_vec::<f32>()?, x.to_vec::<f32>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    irfftn irfft2 HalfToReal;
}

/// The axes and numbers of points that the caller asks for.
fn resolve(
    op: &'static str,
    x: &Array,
    how: &Fftn,
    two: bool,
) -> Result<(Vec<usize>, Vec<Option<usize>>)> {
    let rank = x.0.shape.len();
    let axes: Vec<i64> = match (&how.axes, &how.s) {
        (Some(axes), _) => axes.clone(),
        (None, _) if two => vec![-2, -1],
        (None, Some(s)) => (0..s.len() as i64).map(|i| i - s.len() as i64).collect(),
        (None, None) => (0..rank as i64).collect(),
    };
    let axes = axes.iter().map(|&a| axis_of(op, a, x)).collect::<Result<Vec<_>>>()?;
    if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
        return Err(error(ErrorKind::Axis, op, "an axis is named twice", &[x]));
    }
    let s = match &how.s {
        Some(s) => s.iter().map(|&n| Some(n)).collect(),
        None => vec![None; axes.len()],
    };
    if s.len() != axes.len() {
        let why = format!("{} numbers of points for {} axes", s.len(), axes.len());
        return Err(error(ErrorKind::Shape, op, why, &[x]));
    }
    Ok((axes, s))
}

/// A transform along several axes: the last of them first, but last where it ends in real numbers.
fn over(
    op: &'static str,
    kind: FftKind,
    x: &Array,
    axes: &[usize],
    s: &[Option<usize>],
    norm: Norm,
) -> Result<Array> {
    let Some((&last, others)) = axes.split_last() else {
        if matches!(kind, FftKind::Forward | FftKind::Inverse) {
            return Ok(x.astype(DType::C64));
        }
        return Err(error(ErrorKind::Axis, op, "needs at least one axis", &[x]));
    };
    let n = s[s.len() - 1];
    let others = others.iter().zip(s).rev();
    match kind {
        FftKind::HalfToReal => {
            let x = others.clone().try_fold(x.clone(), |x, (&axis, &n)| {
                along(op, FftKind::Inverse, &x, axis, n, norm)
            })?;
            along(op, kind, &x, last, n, norm)
        }
        _ => {
            let rest = if kind == FftKind::Inverse { kind } else { FftKind::Forward };
            let first = along(op, kind, x, last, n, norm)?;
            others.clone().try_fold(first, |x, (&axis, &n)| along(op, rest, &x, axis, n, norm))
        }
    }
}

/// A transform along one axis.
fn along(
    op: &'static str,
    kind: FftKind,
    x: &Array,
    axis: usize,
    n: Option<usize>,
    norm: Norm,
) -> Result<Array> {
    if kind == FftKind::RealToHalf && x.0.dtype == DType::C64 {
        let why = "takes real numbers; the transform of complex ones is `fft`";
        return Err(error(ErrorKind::DType, op, why, &[x]));
    }
    let length = x.0.shape[axis];
    let (n, needed) = match kind {
        FftKind::HalfToReal => {
            let n = n.unwrap_or(length.saturating_sub(1).saturating_mul(2));
            (n, n / 2 + 1)
        }
        _ => (n.unwrap_or(length), n.unwrap_or(length)),
    };
    if n == 0 {
        let why = format!("a transform of 0 points along axis {axis}");
        return Err(error(ErrorKind::Shape, op, why, &[x]));
    }
    let from = if kind == FftKind::RealToHalf { DType::F32 } else { DType::C64 };
    let x = resize(&x.astype(from), axis, needed);
    x.check()?;
    let inverse = matches!(kind, FftKind::Inverse | FftKind::HalfToReal);
    Ok(apply(kind, &x, axis, n, norm.scale(n, inverse)))
}

/// An axis cut, or continued with zeros, to have `n` entries.
#[track_caller]
fn resize(x: &Array, axis: usize, n: usize) -> Array {
    let length = x.0.shape[axis];
    if n <= length {
        return x.slice_axis(axis as i64, 0, n as i64);
    }
    let mut widths = vec![(0, 0); x.0.shape.len()];
    widths[axis] = (0, n - length);
    x.pad(&widths, Pad::Constant(0.0))
}

/// The primitive, for `n` points.
#[track_caller]
fn apply(kind: FftKind, x: &Array, axis: usize, n: usize, scale: f32) -> Array {
    let mut shape = x.0.shape.clone();
    let (length, dtype) = match kind {
        FftKind::Forward | FftKind::Inverse => (n, DType::C64),
        FftKind::RealToHalf => (n / 2 + 1, DType::C64),
        FftKind::HalfToReal => (n, DType::F32),
    };
    shape[axis] = length;
    let fft = Prim::Fft { kind, axis: axis as u8, scale: F32Bits::new(scale) };
    prim(fft, [x.clone()], shape, dtype)
}

/// The frequencies of the entries of [`fft`] for `n` samples that lie `d` apart: f32 `(n)`,
/// `0, 1, … (n-1)/2, -n/2, … -1` over `n·d`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(fft::fftfreq(4, 0.5).to_vec::<f32>()?, [0.0, 0.5, -1.0, -0.5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn fftfreq(n: usize, d: f64) -> Array {
    attempt(|| {
        let step = frequency_step("fftfreq", n, d)?;
        let k = arange(n, DType::F64);
        let negative = k.greater_equal(n.div_ceil(2) as f64).astype(DType::F64);
        Ok(((k - negative * n as f64) * step).astype(DType::F32))
    })
}

/// The frequencies of the entries of [`rfft`] for `n` samples that lie `d` apart: f32 `(n/2 + 1)`,
/// `0, 1, … n/2` over `n·d`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(fft::rfftfreq(4, 0.5).to_vec::<f32>()?, [0.0, 0.5, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn rfftfreq(n: usize, d: f64) -> Array {
    attempt(|| {
        let step = frequency_step("rfftfreq", n, d)?;
        Ok((arange(n / 2 + 1, DType::F64) * step).astype(DType::F32))
    })
}

fn frequency_step(op: &'static str, n: usize, d: f64) -> Result<f64> {
    if n == 0 {
        return Err(Error::new(ErrorKind::Value, op, "there are no frequencies of 0 samples"));
    }
    if !(d.is_finite() && d != 0.0) {
        let why = format!("samples cannot lie {d} apart");
        return Err(Error::new(ErrorKind::Value, op, why));
    }
    Ok(1.0 / (n as f64 * d))
}

/// The array with the entry of frequency 0 moved from the start of each axis (`..` for all) to its
/// middle.
///
/// ```
/// use lazul_core::prelude::*;
/// let f = fft::fftshift(&fft::fftfreq(5, 0.2), ..);
/// assert_eq!(f.to_vec::<f32>()?, [-2.0, -1.0, 0.0, 1.0, 2.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn fftshift(x: &Array, axes: impl IntoAxes) -> Array {
    shift("fftshift", x, axes, |n| n / 2)
}

/// The inverse of [`fftshift`].
///
/// ```
/// use lazul_core::prelude::*;
/// let x = arange(5, DType::I32);
/// assert_eq!(fft::ifftshift(&fft::fftshift(&x, 0), 0).to_vec::<i32>()?, [0, 1, 2, 3, 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn ifftshift(x: &Array, axes: impl IntoAxes) -> Array {
    shift("ifftshift", x, axes, |n| -(n / 2))
}

#[track_caller]
fn shift(op: &'static str, x: &Array, axes: impl IntoAxes, by: fn(i64) -> i64) -> Array {
    let axes = axes.into_axes();
    attempt(|| {
        x.check()?;
        let rank = x.0.shape.len();
        let axes = match &axes {
            Some(axes) => super::axes_of(op, axes, x)?,
            None => (0..rank).collect(),
        };
        Ok(axes.iter().fold(x.clone(), |x, &a| x.roll(by(x.0.shape[a] as i64), a as i64)))
    })
}

#[cfg(test)]
mod tests;
