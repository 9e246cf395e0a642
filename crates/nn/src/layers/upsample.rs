//! Resizing of spatial axes, channels last, axis by axis: each result along an axis is a weighted sum of
//! a few elements (*taps*) of it.

use super::error;
use crate::module::{Module, Visitor, VisitorMut};
use lazul_core::{Array, DType, Error, ErrorKind, Result, attempt};

/// How values between elements are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolate {
    /// The nearest element.
    #[default]
    Nearest,
    /// Straight lines between neighbours.
    Linear {
        /// Whether first and last elements stay where they are, rather than the edges of the first and
        /// the last.
        align_corners: bool,
        /// Whether shrinking averages over all elements that a result stands for.
        antialias: bool,
    },
    /// Cubic curves through four neighbours, with `a = -0.75`, or with antialiasing -0.5. Source: Keys,
    /// 1981.
    Cubic {
        /// As for lines.
        align_corners: bool,
        /// As for lines.
        antialias: bool,
    },
}

/// One element of an axis, and its weight, for each result.
struct Tap {
    at: Vec<u32>,
    weight: Vec<f32>,
}

/// The cubic kernel at a distance up to 1, and from 1 to 2.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Where `m` results lie along an axis of `n` elements.
fn places(n: usize, m: usize, scale: f64, align_corners: bool) -> impl Fn(usize) -> f64 {
    let last = |k: usize| (k - 1) as f64;
    let (step, start) = if align_corners {
        (last(n) / last(m).max(1.0), 0.0)
    } else {
        (1.0 / scale, (last(m) / scale - last(n)) / 2.0)
    };
    move |i| i as f64 * step - start
}

/// The taps of `m` results along an axis of `n` elements, which are both not 0.
fn taps(n: usize, m: usize, scale: f64, how: Interpolate) -> Vec<Tap> {
    let tap = |f: &dyn Fn(usize) -> (f64, f64)| {
        let (mut at, mut weight) = (Vec::with_capacity(m), Vec::with_capacity(m));
        for i in 0..m {
            let (place, w) = f(i);
            at.push(place.clamp(0.0, (n - 1) as f64) as u32);
            weight.push(w as f32);
        }
        Tap { at, weight }
    };
    match how {
        Interpolate::Nearest => {
            let ratio = n as f64 / m as f64;
            let place = |i: usize| {
                if m.is_multiple_of(n) {
                    (i / (m / n)) as f64
                } else if m > n {
                    // In single precision, so that ties fall as they do for MLX.
                    (((i as f32 + 0.5) * ratio as f32 - 0.5).round_ties_even()) as f64
                } else {
                    (i as f32 * ratio as f32).floor() as f64
                }
            };
            vec![tap(&|i| (place(i), 1.0))]
        }
        Interpolate::Linear { align_corners, antialias: false } => {
            let place = places(n, m, scale, align_corners);
            let place = |i| place(i).clamp(0.0, (n - 1) as f64);
            let part = |i| place(i) - place(i).floor();
            vec![tap(&|i| (place(i).floor(), 1.0 - part(i))), tap(&|i| (place(i).ceil(), part(i)))]
        }
        Interpolate::Cubic { align_corners, antialias: false } => {
            let place = places(n, m, scale, align_corners);
            let one = |k: f64| {
                tap(&|i| {
                    let at = place(i).floor() + k;
                    (at, cubic((place(i) - at).abs(), -0.75))
                })
            };
            [-1.0, 0.0, 1.0, 2.0].map(one).into()
        }
        Interpolate::Linear { antialias: true, .. } => {
            averaged(n, m, scale, 1.0, |x| (1.0 - x).max(0.0), &tap)
        }
        Interpolate::Cubic { antialias: true, .. } => {
            averaged(n, m, scale, 2.0, |x| cubic(x, -0.5), &tap)
        }
    }
}

/// Taps of a kernel that is as wide as the elements that a result stands for.
fn averaged(
    n: usize,
    m: usize,
    scale: f64,
    radius: f64,
    kernel: impl Fn(f64) -> f64,
    tap: &dyn Fn(&dyn Fn(usize) -> (f64, f64)) -> Tap,
) -> Vec<Tap> {
    let place = places(n, m, scale, false);
    let widening = (1.0 / scale).max(1.0);
    // No more taps than there are elements on both sides.
    let reach = (radius * widening).ceil().min(n as f64 + 1.0);
    let offsets: Vec<f64> = (0..=2 * reach as usize).map(|k| k as f64 - reach).collect();
    let weight = |i: usize, offset: f64| {
        let at = place(i).floor() + offset;
        let inside = at >= 0.0 && at < n as f64;
        (at, if inside { kernel((place(i) - at).abs() / widening) } else { 0.0 })
    };
    let sums: Vec<f64> =
        (0..m).map(|i| offsets.iter().map(|&o| weight(i, o).1).sum::<f64>()).collect();
    let each = offsets.iter().map(|&o| {
        tap(&|i| {
            let (at, w) = weight(i, o);
            (at, if sums[i] > 0.0 { w / sums[i] } else { w })
        })
    });
    each.filter(|t| t.weight.iter().any(|&w| w != 0.0)).collect()
}

/// `x (n, …, c)` with its spatial axes resized by `scales`: one factor for all, or one each. An axis of
/// length `n` gets `floor(n * scale)` places.
///
/// Nearest elements keep the dtype, integers otherwise become f32; f16 and bf16 are computed in f32.
/// Fails if factors are not positive or too many or few, if nothing would be left, or if corners are to
/// be aligned with antialiasing.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::{Interpolate, upsample};
/// let x = Array::from_slice(&[1.0f32, 3.0], [1, 2, 1]);
/// let linear = Interpolate::Linear { align_corners: false, antialias: false };
/// assert_eq!(upsample(&x, &[2.0], Interpolate::Nearest).to_vec::<f32>()?, [1.0, 1.0, 3.0, 3.0]);
/// assert_eq!(upsample(&x, &[2.0], linear).to_vec::<f32>()?, [1.0, 1.5, 2.5, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn upsample(x: &Array, scales: &[f64], how: Interpolate) -> Array {
    attempt(|| {
        let refuse = |why: String| Err(error(ErrorKind::Value, "upsample", why, &[x]));
        let (rank, dtype) = (x.ndim()?, x.dtype()?);
        if rank < 3 {
            let why = "needs an input (n, …, c) with a spatial axis or more";
            return Err(error(ErrorKind::Shape, "upsample", why, &[x]));
        }
        if scales.len() != 1 && scales.len() != rank - 2 {
            return refuse(format!("{} scales for {} spatial axes", scales.len(), rank - 2));
        }
        let both = Interpolate::Linear { align_corners: true, antialias: true };
        let cubic = Interpolate::Cubic { align_corners: true, antialias: true };
        if how == both || how == cubic {
            return refuse("corners cannot be aligned with antialiasing".to_string());
        }
        if dtype == DType::C64 && how != Interpolate::Nearest {
            let why = "is not defined for complex64";
            return Err(error(ErrorKind::DType, "upsample", why, &[x]));
        }
        let (wide, result) = match dtype {
            _ if how == Interpolate::Nearest => (dtype, dtype),
            DType::F64 => (dtype, dtype),
            d if d.is_float() => (DType::F32, d),
            _ => (DType::F32, DType::F32),
        };
        let mut y = x.astype(wide);
        for axis in 1..rank - 1 {
            let scale = if scales.len() == 1 { scales[0] } else { scales[axis - 1] };
            let n = x.dim(axis as i64)?;
            let m = n as f64 * scale;
            if !(m >= 1.0 && m < u32::MAX as f64) {
                return refuse(format!("{n} elements cannot be scaled by {scale}"));
            }
            let m = m as usize;
            let mut shape = vec![1; rank];
            shape[axis] = m;
            let mut sum: Option<Array> = None;
            for Tap { at, weight } in taps(n, m, scale, how) {
                let part = y.take(Array::from_slice(&at, [m]), axis as i64);
                let part = match how {
                    Interpolate::Nearest => part,
                    _ => part * Array::from_slice(&weight, &shape).astype(wide),
                };
                sum = Some(match sum {
                    Some(sum) => sum + part,
                    None => part,
                });
            }
            y = sum.unwrap_or(y);
        }
        Ok(y.astype(result))
    })
}

/// [`upsample`] as a layer without parameters.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::{Interpolate, Upsample};
/// let layer = Upsample::new(&[2.0], Interpolate::Nearest)?;
/// assert_eq!(layer.forward(&ones([1, 2, 3, 4], DType::F32)).shape()?, &[1, 4, 6, 4]);
/// assert!(Upsample::new(&[-1.0], Interpolate::Nearest).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Upsample {
    /// One factor for all spatial axes, or one each.
    pub scales: Vec<f64>,
    /// How values between elements are found.
    pub how: Interpolate,
}

impl Upsample {
    /// Resizing by `scales`: one factor for all spatial axes, or one each.
    ///
    /// # Errors
    /// If there are no factors, or one is not positive and finite.
    pub fn new(scales: &[f64], how: Interpolate) -> Result<Upsample> {
        if scales.is_empty() || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            let why = format!("scales {scales:?} are not positive numbers");
            return Err(Error::new(ErrorKind::Value, "Upsample", why));
        }
        Ok(Upsample { scales: scales.to_vec(), how })
    }

    /// `x (n, …, c)` → the same with other lengths of spatial axes.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        upsample(x, &self.scales, self.how)
    }
}

/// Has no parameters.
impl Module for Upsample {
    fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}
