//! Pooling: largest elements, and means, of windows over the spatial axes.
//!
//! Windows are taken apart axis by axis, since the maximum of a window is that of its rows' maxima (and
//! sums likewise): `k` shifted slices an axis, which the evaluator fuses, instead of the product over
//! axes; windows that tile an axis are a reshape.

use super::error;
use lazul_core::dtypes::iinfo;
use lazul_core::ints::IntoInts;
use lazul_core::{Array, DType, Error, ErrorKind, Pad, Result, attempt};

/// One number for all of `N` spatial axes, or one for each of them, none below `least`.
pub(super) fn per_axis<const N: usize>(
    op: &'static str,
    what: &str,
    numbers: impl IntoInts,
    least: i64,
) -> Result<[usize; N]> {
    let numbers = numbers.into_ints();
    let refuse = |why| Error::new(ErrorKind::Value, op, why);
    if numbers.len() != 1 && numbers.len() != N {
        let why = format!("{} values of {what} for {N} spatial axes", numbers.len());
        return Err(refuse(why));
    }
    let mut all = [0; N];
    for (i, slot) in all.iter_mut().enumerate() {
        let v = if numbers.len() == 1 { numbers[0] } else { numbers[i] };
        if v < least {
            return Err(refuse(format!("{what} is {v}, but at least {least}")));
        }
        *slot = v as usize;
    }
    Ok(all)
}

/// What is made of a window.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Max,
    Mean,
}

/// Windows over `N` spatial axes.
#[derive(Clone, Copy, Debug)]
struct Windows<const N: usize> {
    kernel: [usize; N],
    stride: [usize; N],
    padding: [usize; N],
}

impl<const N: usize> Windows<N> {
    fn pool(&self, op: &'static str, of: Of, x: &Array) -> Result<Array> {
        let dtype = x.dtype()?;
        if x.ndim()? != N + 2 {
            let why = format!("needs an input (n, spatial…, c) with {N} spatial axes");
            return Err(error(ErrorKind::Shape, op, why, &[x]));
        }
        for i in 0..N {
            let (length, kernel, padding) = (x.dim(1 + i as i64)?, self.kernel[i], self.padding[i]);
            if length.saturating_add(padding.saturating_mul(2)) < kernel {
                let why = format!(
                    "a window of {kernel} does not fit into {length} elements with padding {padding}"
                );
                return Err(error(ErrorKind::Shape, op, why, &[x]));
            }
        }
        let mut widths = vec![(0, 0); N + 2];
        widths[1..=N].iter_mut().zip(self.padding).for_each(|(w, p)| *w = (p, p));
        let least = match dtype {
            d if d.is_float() => f64::NEG_INFINITY,
            d if d.is_integer() => iinfo(d)?.min as f64,
            DType::Bool => 0.0,
            _ => return Err(error(ErrorKind::DType, op, "is not defined for complex64", &[x])),
        };
        if of == Of::Max {
            let mut y = x.pad(&widths, Pad::Constant(least));
            for i in 0..N {
                y = self.along(i, &y, |a, b| a.maximum(b), |a, axis| a.max(axis))?;
            }
            return Ok(y);
        }
        let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
        let mut y = x.astype(wide).pad(&widths, Pad::Constant(0.0));
        for i in 0..N {
            y = self.along(i, &y, |a, b| a + b, |a, axis| a.sum(axis))?;
        }
        let count: f64 = self.kernel.iter().map(|&k| k as f64).product();
        Ok((y / count).astype(if dtype.is_float() { dtype } else { DType::F32 }))
    }

    /// Windows along spatial axis `i`.
    fn along(
        &self,
        i: usize,
        x: &Array,
        join: impl Fn(&Array, &Array) -> Array,
        reduce: impl Fn(&Array, i64) -> Array,
    ) -> Result<Array> {
        let (axis, kernel, stride) = (1 + i as i64, self.kernel[i], self.stride[i]);
        let length = x.dim(axis)?;
        if kernel == stride {
            let tiled = x.slice_axis(axis, 0, (length / kernel * kernel) as i64);
            let split = tiled.unflatten(axis, [(length / kernel) as i64, kernel as i64]);
            return Ok(reduce(&split, axis + 1));
        }
        let reach = ((length - kernel) / stride * stride) as i64;
        let shifted = |from: usize| {
            let from = from as i64;
            // A stride past the end is a step to nowhere.
            let step = stride.min(length) as i64;
            x.slice_step(axis, from, from + reach + 1, step)
        };
        Ok((1..kernel).fold(shifted(0), |all, from| join(&all, &shifted(from))))
    }
}

macro_rules! pools {
    ($($name:ident $of:ident $rank:literal $shape:literal $what:literal $example:literal;)*) => {$(
        #[doc = concat!($what, " of each window of `x ", $shape, "` in each channel.")]
        ///
        /// ```
        /// use lazul_core::prelude::*;
        #[doc = concat!("use lazul_nn::layers::", stringify!($name), ";")]
        #[doc = $example]
        #[doc = concat!("assert!(", stringify!($name), "::new(0).is_err());")]
        /// # Ok::<(), lazul_core::Error>(())
        /// ```
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            windows: Windows<$rank>,
        }

        impl $name {
            /// Windows of `kernel` elements (one number for all spatial axes, or one each) that tile the
            /// input, without padding.
            ///
            /// # Errors
            /// If the numbers are none for each axis, or 0.
            pub fn new(kernel: impl IntoInts) -> Result<$name> {
                let kernel = per_axis(stringify!($name), "kernel", kernel, 1)?;
                Ok($name { windows: Windows { kernel, stride: kernel, padding: [0; $rank] } })
            }

            /// With windows at another distance.
            ///
            /// # Errors
            /// If the numbers are none for each axis, or 0.
            pub fn stride(mut self, stride: impl IntoInts) -> Result<$name> {
                self.windows.stride = per_axis(stringify!($name), "stride", stride, 1)?;
                Ok(self)
            }

            /// With so many elements around the input: the least value for a maximum, and 0, which
            /// counts, for a mean.
            ///
            /// # Errors
            /// If the numbers are none for each axis, or negative.
            pub fn padding(mut self, padding: impl IntoInts) -> Result<$name> {
                self.windows.padding = per_axis(stringify!($name), "padding", padding, 0)?;
                Ok(self)
            }

            #[doc = concat!("`x ", $shape, "` → the same with as many places as windows.")]
            #[doc = concat!("Maxima have `x`'s dtype, means a float one.")]
            #[track_caller]
            pub fn forward(&self, x: &Array) -> Array {
                attempt(|| self.windows.pool(stringify!($name), Of::$of, x))
            }
        }

        /// Has no parameters.
        impl crate::Module for $name {
            fn visit<'a>(&'a self, _: &mut crate::Visitor<'_, 'a>) {}
            fn visit_mut(&mut self, _: &mut crate::VisitorMut<'_>) {}
        }
    )*};
}
pools! {
    MaxPool1d Max 1 "(n, l, c)" "The largest element"
        "let x = Array::from_slice(&[1.0f32, 3.0, 2.0, 5.0], [1, 4, 1]);\nassert_eq!(MaxPool1d::new(2)?.forward(&x).to_vec::<f32>()?, [3.0, 5.0]);\nassert_eq!(MaxPool1d::new(3)?.stride(1)?.forward(&x).to_vec::<f32>()?, [3.0, 5.0]);";
    MaxPool2d Max 2 "(n, h, w, c)" "The largest element"
        "let x = arange(9, DType::F32).reshape([1, 3, 3, 1]);\nassert_eq!(MaxPool2d::new(2)?.stride(1)?.forward(&x).to_vec::<f32>()?, [4.0, 5.0, 7.0, 8.0]);\nassert_eq!(MaxPool2d::new(3)?.padding([1, 0])?.forward(&x).shape()?, &[1, 1, 1, 1]);";
    MaxPool3d Max 3 "(n, d, h, w, c)" "The largest element"
        "let x = arange(8, DType::F32).reshape([1, 2, 2, 2, 1]);\nassert_eq!(MaxPool3d::new([1, 2, 2])?.forward(&x).to_vec::<f32>()?, [3.0, 7.0]);";
    AvgPool1d Mean 1 "(n, l, c)" "The mean"
        "let x = Array::from_slice(&[1.0f32, 3.0, 2.0, 5.0], [1, 4, 1]);\nassert_eq!(AvgPool1d::new(2)?.forward(&x).to_vec::<f32>()?, [2.0, 3.5]);";
    AvgPool2d Mean 2 "(n, h, w, c)" "The mean"
        "let x = arange(9, DType::F32).reshape([1, 3, 3, 1]);\nassert_eq!(AvgPool2d::new(2)?.stride(1)?.forward(&x).to_vec::<f32>()?, [2.0, 3.0, 5.0, 6.0]);";
    AvgPool3d Mean 3 "(n, d, h, w, c)" "The mean"
        "let x = arange(8, DType::F32).reshape([1, 2, 2, 2, 1]);\nassert_eq!(AvgPool3d::new([1, 2, 2])?.forward(&x).to_vec::<f32>()?, [1.5, 5.5]);";
}
