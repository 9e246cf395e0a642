//! Convolution layers, plain and transposed, channels last.

use super::Keys;
use super::pooling::per_axis;
use lazul_core::ints::IntoInts;
use lazul_core::{
    Array, Conv, ConvTranspose, DType, Error, ErrorKind, Result, attempt, conv_transpose1d,
    conv_transpose2d, conv_transpose3d, conv1d, conv2d, conv3d, random, zeros,
};

/// Weights `(c_out, kernel…, c_in / groups)` uniform within `1 / sqrt(c_in * kernel…)`, as MLX draws
/// them.
fn weights(
    op: &'static str,
    [c_in, c_out, groups]: [usize; 3],
    kernel: &[usize],
    key: Option<&Array>,
) -> Result<Array> {
    if groups == 0 || c_in % groups != 0 || c_out % groups != 0 {
        let why = format!("{c_in} and {c_out} channels do not divide into {groups} groups");
        return Err(Error::new(ErrorKind::Value, op, why));
    }
    let taps: f64 = kernel.iter().map(|&k| k as f64).product();
    let limit = (1.0 / (c_in.max(1) as f64 * taps)).sqrt();
    let shape: Vec<usize> =
        [c_out].into_iter().chain(kernel.iter().copied()).chain([c_in / groups]).collect();
    let weight = random::uniform(-limit, limit, &shape, DType::F32, Keys::new(key).next().as_ref());
    weight.check()?;
    Ok(weight)
}

macro_rules! convolutions {
    ($($name:ident $f:ident $how:ident $rank:literal $shape:literal $kernel:literal
       $text:literal $example:literal;)*) => {$(
        #[doc = concat!($text, " of `x ", $shape, "` with learned kernels.")]
        ///
        /// ```
        /// use lazul_core::prelude::*;
        #[doc = concat!("use lazul_nn::layers::", stringify!($name), ";")]
        #[doc = concat!(
            "let layer = ", stringify!($name), "::init(3, 8, 2, true, ", stringify!($how),
            "::default(), Some(&random::key(0)))?;"
        )]
        #[doc = $example]
        /// # Ok::<(), lazul_core::Error>(())
        /// ```
        #[derive(Clone, Debug, crate::Module)]
        pub struct $name {
            #[doc = concat!("Kernels, `", $kernel, "`.")]
            pub weight: Array,
            /// Added to each channel, `(c_out)`.
            pub bias: Option<Array>,
            /// Stride, padding, dilation, groups.
            #[module(skip)]
            pub how: $how,
        }

        impl $name {
            /// A layer with parameters of one's own.
            pub fn new(weight: Array, bias: Option<Array>, how: $how) -> $name {
                $name { weight, bias, how }
            }

            /// A layer from `c_in` to `c_out` channels with kernels of `kernel` taps (one number for all
            /// spatial axes, or one each); f32, weights uniform within `1 / sqrt(c_in * taps)`, bias 0.
            ///
            /// # Errors
            /// If the kernel has no taps, or channels do not divide into groups.
            pub fn init(
                c_in: usize,
                c_out: usize,
                kernel: impl IntoInts,
                bias: bool,
                how: $how,
                key: Option<&Array>,
            ) -> Result<$name> {
                let op = stringify!($name);
                let kernel: [usize; $rank] = per_axis(op, "kernel", kernel, 1)?;
                let weight = weights(op, [c_in, c_out, how.groups], &kernel, key)?;
                Ok($name { weight, bias: bias.then(|| zeros(c_out, DType::F32)), how })
            }

            #[doc = concat!("`x ", $shape, "` → the same with other places and `c_out` channels.")]
            #[track_caller]
            pub fn forward(&self, x: &Array) -> Array {
                attempt(|| {
                    let y = $f(x, &self.weight, self.how.clone());
                    Ok(match &self.bias {
                        Some(bias) => y + bias,
                        None => y,
                    })
                })
            }
        }
    )*};
}
convolutions! {
    Conv1d conv1d Conv 1 "(n, l, c_in)" "(c_out, k, c_in / groups)" "The convolution"
        "assert_eq!(layer.forward(&ones([1, 5, 3], DType::F32)).shape()?, &[1, 4, 8]);";
    Conv2d conv2d Conv 2 "(n, h, w, c_in)" "(c_out, kh, kw, c_in / groups)" "The convolution"
        "assert_eq!(layer.forward(&ones([1, 5, 4, 3], DType::F32)).shape()?, &[1, 4, 3, 8]);";
    Conv3d conv3d Conv 3 "(n, d, h, w, c_in)" "(c_out, kd, kh, kw, c_in / groups)"
        "The convolution"
        "assert_eq!(layer.forward(&ones([1, 5, 4, 3, 3], DType::F32)).shape()?, &[1, 4, 3, 2, 8]);";
    ConvTranspose1d conv_transpose1d ConvTranspose 1 "(n, l, c_in)" "(c_out, k, c_in / groups)"
        "The transposed convolution"
        "assert_eq!(layer.forward(&ones([1, 5, 3], DType::F32)).shape()?, &[1, 6, 8]);";
    ConvTranspose2d conv_transpose2d ConvTranspose 2 "(n, h, w, c_in)"
        "(c_out, kh, kw, c_in / groups)" "The transposed convolution"
        "assert_eq!(layer.forward(&ones([1, 5, 4, 3], DType::F32)).shape()?, &[1, 6, 5, 8]);";
    ConvTranspose3d conv_transpose3d ConvTranspose 3 "(n, d, h, w, c_in)"
        "(c_out, kd, kh, kw, c_in / groups)" "The transposed convolution"
        "assert_eq!(layer.forward(&ones([1, 5, 4, 3, 3], DType::F32)).shape()?, &[1, 6, 5, 4, 8]);";
}
