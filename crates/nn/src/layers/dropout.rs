//! Dropout: in training, parts of an array become zero at random and the rest makes up for them.
//!
//! Keys come from the generator whose scope it is ([`Generator::scope`](random::Generator::scope)), which may be
//! state of a compiled step, and without one from the process' own ([`random::seed`]). Source: Srivastava et al., 2014.

use super::error;
use crate::module::Training;
use lazul_core::{Array, Error, ErrorKind, Result, attempt, random, where_};

fn checked(op: &'static str, p: f64) -> Result<f64> {
    if (0.0..1.0).contains(&p) {
        return Ok(p);
    }
    Err(Error::new(ErrorKind::Value, op, format!("the probability {p} is not from 0 to below 1")))
}

/// Zeros with probability `p` for each element of `mask`'s shape, which broadcasts against `x`.
fn drop(x: &Array, p: f64, mask: &[usize]) -> Array {
    let keep = 1.0 - p;
    // A selection: a dropped infinity is zero as well.
    where_(random::bernoulli(keep, mask, None), x * (1.0 / keep), 0)
}

/// Drops single elements.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Module, layers::Dropout};
/// let mut dropout = Dropout::new(0.5)?;
/// let y = dropout.forward(&ones([100], DType::F32)).to_vec::<f32>()?;
/// assert!(y.iter().all(|&v| v == 0.0 || v == 2.0));
/// dropout.train(false);
/// assert_eq!(dropout.forward(&ones([2], DType::F32)).to_vec::<f32>()?, [1.0, 1.0]);
/// assert!(Dropout::new(1.0).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Dropout {
    /// The probability of a zero.
    #[module(option)]
    pub p: f64,
    /// Does nothing unless in training.
    pub training: Training,
}

impl Dropout {
    /// With probability `p` (MLX: 0.5) of a zero.
    ///
    /// # Errors
    /// If `p` is not from 0 to below 1.
    pub fn new(p: f64) -> Result<Dropout> {
        Ok(Dropout { p: checked("Dropout", p)?, training: Training(true) })
    }

    /// `x` of any shape → same shape.
    ///
    /// ```
    /// use lazul_core::{prelude::*, random::Generator};
    /// use lazul_nn::layers::Dropout;
    /// let dropout = Dropout::new(0.5)?;
    /// let step = compile_with_state(|generator: &mut Generator, x: &Array| {
    ///     generator.scope(|| dropout.forward(x))
    /// });
    /// let (mut generator, x) = (Generator::new(0), ones([100], DType::F32));
    /// let [a, b] = [(); 2].map(|()| step(&mut generator, &x));
    /// assert_ne!(a?.to_vec::<f32>()?, b?.to_vec::<f32>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        attempt(|| {
            if !self.training.0 || self.p == 0.0 {
                return Ok(x.clone());
            }
            Ok(drop(x, self.p, x.shape()?))
        })
    }
}

macro_rules! channel_dropout {
    ($name:ident, $op:literal, $rank:literal, $shape:literal, $ones:expr) => {
        /// Drops whole channels of
        #[doc = concat!("`", $shape, "`, or of the same without `n`.")]
        ///
        /// ```
        /// use lazul_core::prelude::*;
        #[doc = concat!("use lazul_nn::layers::", stringify!($name), ";")]
        #[doc = concat!("let dropout = ", stringify!($name), "::new(0.5)?;")]
        #[doc = concat!("let y = dropout.forward(&ones(", $ones, ", DType::F32));")]
        /// let sums = y.flatten(0, -2).sum(0).to_vec::<f32>()?;
        /// let whole = (y.size()? / 5 * 2) as f32;
        /// assert!(sums.iter().all(|&v| v == 0.0 || v == whole));
        /// # Ok::<(), lazul_core::Error>(())
        /// ```
        #[derive(Clone, Debug, crate::Module)]
        pub struct $name {
            /// The probability of a zero.
            #[module(option)]
            pub p: f64,
            /// Does nothing unless in training.
            pub training: Training,
        }

        impl $name {
            /// With probability `p` (MLX: 0.5) of a zero.
            ///
            /// # Errors
            /// If `p` is not from 0 to below 1.
            pub fn new(p: f64) -> Result<$name> {
                Ok($name { p: checked($op, p)?, training: Training(true) })
            }

            #[doc = concat!("`x ", $shape, "` → same shape.")]
            #[track_caller]
            pub fn forward(&self, x: &Array) -> Array {
                attempt(|| {
                    let shape = x.shape()?;
                    let spatial = match shape.len() {
                        n if n == $rank + 2 => 1..$rank + 1,
                        n if n == $rank + 1 => 0..$rank,
                        _ => {
                            let why = concat!("needs an input ", $shape, ", with or without n");
                            return Err(error(ErrorKind::Shape, $op, why, &[x]));
                        }
                    };
                    if !self.training.0 || self.p == 0.0 {
                        return Ok(x.clone());
                    }
                    let mut mask = shape.to_vec();
                    mask[spatial].fill(1);
                    Ok(drop(x, self.p, &mask))
                })
            }
        }
    };
}
channel_dropout!(Dropout2d, "Dropout2d", 2, "(n, h, w, c)", "[1, 3, 3, 5]");
channel_dropout!(Dropout3d, "Dropout3d", 3, "(n, d, h, w, c)", "[1, 3, 3, 3, 5]");
