//! Where a token stands: rotary embeddings, sinusoids, linear biases.

use super::error;
use lazul_core::{
    Array, DType, Error, ErrorKind, Result, arange, arange_step, attempt, concatenate, fast,
};
use std::f64::consts::PI;

/// Rotary position embedding (see [`fast::rope`]) as a layer without parameters.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Rope;
/// let x = ones([1, 2, 5, 8], DType::F32);
/// let all = Rope::new(8).forward(&x, 0);
/// let last = Rope::new(8).forward(&x.slice_axis(2, 4, None), 4);
/// assert!(all.slice_axis(2, 4, None).allclose(&last, Tolerance::default()).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rope {
    /// Features that are rotated, pairs, frequencies.
    pub how: fast::Rope,
}

impl Rope {
    /// A rotation of the first `dims` features, an even number, with base 10000 (MLX's defaults).
    pub fn new(dims: usize) -> Rope {
        Rope { how: fast::Rope { dims, ..Default::default() } }
    }

    /// `x (b, …, t, d)` or `(t, d)`, whose first row stands at position `offset` → same shape and dtype.
    /// Positions that are arrays go to [`fast::rope`].
    #[track_caller]
    pub fn forward(&self, x: &Array, offset: i32) -> Array {
        fast::rope(x, &self.how, &Array::scalar(offset))
    }
}

/// Has no parameters.
impl crate::Module for Rope {
    fn visit<'a>(&'a self, _: &mut crate::Visitor<'_, 'a>) {}
    fn visit_mut(&mut self, _: &mut crate::VisitorMut<'_>) {}
}

/// Sines and cosines of positions at frequencies that fall geometrically. Source: Vaswani et al., 2017.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::SinusoidalPositionalEncoding;
/// let encoding = SinusoidalPositionalEncoding::new(4)?;
/// let y = encoding.forward(&zeros([3], DType::F32));
/// assert_eq!(y.shape()?, &[3, 4]);
/// // sin(0), sin(0), cos(0), cos(0), times sqrt(2 / 4)
/// assert_eq!(y.to_vec::<f32>()?[..3], [0.0, 0.0, 0.5f32.sqrt()]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SinusoidalPositionalEncoding {
    /// Number of features.
    pub dims: usize,
    /// The least frequency; 0.0001.
    pub min_freq: f64,
    /// The greatest; 1.
    pub max_freq: f64,
    /// Multiplies the result; `sqrt(2 / dims)`.
    pub scale: f64,
    /// Whether cosines come first; false.
    pub cos_first: bool,
    /// Whether frequencies count turns rather than radians; false.
    pub full_turns: bool,
}

impl SinusoidalPositionalEncoding {
    /// An encoding in `dims` features, half of them sines.
    ///
    /// # Errors
    /// If `dims` is 0 or odd.
    pub fn new(dims: usize) -> Result<SinusoidalPositionalEncoding> {
        if dims == 0 || !dims.is_multiple_of(2) {
            let why = format!("needs an even number of features, not {dims}");
            return Err(Error::new(ErrorKind::Value, "SinusoidalPositionalEncoding", why));
        }
        Ok(SinusoidalPositionalEncoding {
            dims,
            min_freq: 1e-4,
            max_freq: 1.0,
            scale: (2.0 / dims as f64).sqrt(),
            cos_first: false,
            full_turns: false,
        })
    }

    /// Positions `x` of any shape → `(…, dims)`, in f32 (f64 for f64).
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        attempt(|| {
            let dtype = if x.dtype()? == DType::F64 { DType::F64 } else { DType::F32 };
            let half = self.dims / 2;
            let (low, high) = (self.min_freq.ln(), self.max_freq.ln());
            // From the greatest to the least; a single frequency is the greatest.
            let fall = arange(half as i64, DType::F64) / (half.max(2) - 1) as f64;
            let mut sigmas = (fall * (low - high) + high).exp();
            if self.full_turns {
                sigmas *= 2.0 * PI;
            }
            let angles = x.astype(dtype).expand_dims(-1) * sigmas.astype(dtype);
            let (sin, cos) = (angles.sin(), angles.cos());
            let both = if self.cos_first { [cos, sin] } else { [sin, cos] };
            Ok(concatenate(&both, -1) * self.scale)
        })
    }
}

/// Has no parameters.
impl crate::Module for SinusoidalPositionalEncoding {
    fn visit<'a>(&'a self, _: &mut crate::Visitor<'_, 'a>) {}
    fn visit_mut(&mut self, _: &mut crate::VisitorMut<'_>) {}
}

/// Attention with linear biases: scores fall with the distance of query and key, in each head at another
/// rate. Source: Press, Smith and Lewis, 2021.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Alibi;
/// let bias = Alibi::matrix(2, 3, 8, 0, DType::F32);
/// assert_eq!(bias.shape()?, &[1, 8, 2, 3]);
/// assert_eq!(bias.to_vec::<f32>()?[..3], [0.0, -0.5, -1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, crate::Module)]
pub struct Alibi {}

impl Alibi {
    /// The rates of `heads` heads, in f64: a geometric sequence for a power of two, filled up with every
    /// other rate of the next one otherwise.
    fn rates(heads: usize) -> Vec<f64> {
        let geometric = |n: usize| {
            let ratio = 2f64.powf(-8.0 / n as f64);
            (1..=n as i32).map(move |i| ratio.powi(i))
        };
        let power = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
        let more = geometric(2 * power.max(1)).step_by(2).take(heads - power);
        geometric(power).chain(more).collect()
    }

    /// The biases `(1, heads, queries - offset, keys)` of queries at positions `offset..queries` and keys
    /// from 0 on.
    #[track_caller]
    pub fn matrix(queries: usize, keys: usize, heads: usize, offset: usize, dtype: DType) -> Array {
        let rates = Array::from_slice(&Alibi::rates(heads), [heads, 1, 1]);
        let q = arange_step(offset as i64, queries.max(offset) as i64, 1, DType::F64);
        let distance = (q.expand_dims(1) - arange(keys as i64, DType::F64)).abs();
        (-distance * rates).expand_dims(0).astype(dtype)
    }

    /// Attention scores `(b, h, tq, tk)` with their biases, and a mask that is added too; the first query
    /// stands at position `offset`.
    #[track_caller]
    pub fn forward(&self, scores: &Array, offset: usize, mask: Option<&Array>) -> Array {
        attempt(|| {
            let [_, heads, tq, tk] = scores.dims().map_err(|_| {
                error(ErrorKind::Shape, "Alibi", "needs scores (b, h, tq, tk)", &[scores])
            })?;
            let bias = Alibi::matrix(tq + offset, tk, heads, offset, scores.dtype()?);
            Ok(match mask {
                Some(mask) => scores + (bias + mask),
                None => scores + bias,
            })
        })
    }
}
