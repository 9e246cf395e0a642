//! Operations that have a kernel of their own because it pays: softmax, norms, rotary embedding,
//! attention.
//!
//! Each also has a composition of ordinary operations, its *fallback* ([`fallback`]): what it means,
//! what backends without the kernel run, and what tests compare the kernels with.

mod attention;
mod cross_entropy;
mod cuda_kernel;
mod gated_delta;
pub(crate) mod rules;

pub use cross_entropy::cross_entropy;
pub use cuda_kernel::{
    CudaKernel, KernelLaunch, TemplateArg, cuda_kernel, precompiled_cuda_kernel,
};
pub use gated_delta::{GatedDelta, gated_delta_update};

use super::{attempt, axes_of, error, prim};
use crate::error::{ErrorKind, Result};
use crate::ints::IntoAxes;
use crate::node::Array;
use crate::ops::creation::{arange, arange_step};
use crate::ops::elementwise::where_;
use crate::ops::join::concatenate;
pub(crate) use crate::ops::reduce::wide;
use lazul_ir::{DType, Prim, Shape, dtype::Kind};

pub use lazul_ir::{F32Bits, FastOp};

fn float_only(op: &'static str, x: &Array) -> Result<()> {
    if x.0.dtype.is_float() {
        return Ok(());
    }
    Err(error(ErrorKind::DType, op, "needs a float dtype", &[x]))
}

/// An optional vector of the last axis' length, in a float dtype.
fn check_vector(op: &'static str, x: &Array, v: Option<&Array>, n: usize) -> Result<()> {
    let Some(v) = v else { return Ok(()) };
    v.check()?;
    float_only(op, v)?;
    if v.0.shape[..] != [n] {
        let why = format!("weight and bias need shape ({n},)");
        return Err(error(ErrorKind::Shape, op, why, &[x, v]));
    }
    Ok(())
}

impl Array {
    /// `exp(x) / sum(exp(x))` over axes (`..` for all), without overflow; f16 and bf16 are summed in
    /// f32. Integers give f32. Not for complex64.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let p = zeros([2, 4], DType::F32).softmax(-1);
    /// assert_eq!(p.to_vec::<f32>()?, [0.25; 8]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn softmax(&self, axes: impl IntoAxes) -> Array {
        let axes = axes.into_axes();
        attempt(|| {
            self.check()?;
            let rank = self.0.shape.len();
            let axes = match axes {
                Some(axes) => axes_of("softmax", &axes, self)?,
                None => (0..rank).collect(),
            };
            let dtype = self.0.dtype.to_inexact();
            if dtype.kind() == Kind::Complex {
                return Err(error(
                    ErrorKind::DType,
                    "softmax",
                    "is not defined for complex64",
                    &[self],
                ));
            }
            if axes.is_empty() {
                return Ok(self.astype(dtype).ones_like());
            }
            let x = self.astype(dtype);
            let softmax = |x: &Array| {
                prim(Prim::Fast(FastOp::Softmax), [x.clone()], x.0.shape.clone(), dtype)
            };
            if axes[..] == [rank - 1] {
                return Ok(softmax(&x));
            }
            let (flat, perm) = x.axes_last(&axes);
            let moved: Shape = perm.iter().map(|&a| self.0.shape[a]).collect();
            let mut back = vec![0; rank];
            perm.iter().enumerate().for_each(|(i, &a)| back[a] = i);
            Ok(softmax(&flat).reshape(&moved).transpose(&back))
        })
    }
}

/// Root-mean-square normalisation over the last axis: `x * rsqrt(mean(x²) + eps) * weight`.
///
/// `x (…, d)` of a float dtype, `weight (d)` of any float dtype or none; computed in f32 (f64 for
/// f64), result in `x`'s dtype. Source: Zhang and Sennrich, 2019.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[3.0f32, 4.0], [1, 2]);
/// let y = fast::rms_norm(&x, Some(&Array::from_slice(&[1.0f32, 2.0], [2])), 0.0);
/// let rms = 12.5f32.sqrt();
/// assert_eq!(y.to_vec::<f32>()?, [3.0 / rms, 2.0 * (4.0 / rms)]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Array {
    attempt(|| {
        x.check()?;
        float_only("rms_norm", x)?;
        let n = x.dim(-1)?;
        check_vector("rms_norm", x, weight, n)?;
        let norm = FastOp::RmsNorm { eps: F32Bits::new(eps) };
        let inputs = [x].into_iter().chain(weight).cloned();
        Ok(prim(Prim::Fast(norm), inputs, x.0.shape.clone(), x.0.dtype))
    })
}

/// Layer normalisation over the last axis: mean 0, variance 1, then `* weight + bias`.
///
/// `x (…, d)` of a float dtype, `weight (d)` and `bias (d)` of any float dtype or none; computed in
/// f32 (f64 for f64), result in `x`'s dtype. Source: Ba, Kiros and Hinton, 2016.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[1.0f32, 3.0], [1, 2]);
/// let y = fast::layer_norm(&x, None, Some(&Array::from_slice(&[0.0f32, 1.0], [2])), 0.0);
/// assert_eq!(y.to_vec::<f32>()?, [-1.0, 2.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn layer_norm(x: &Array, weight: Option<&Array>, bias: Option<&Array>, eps: f32) -> Array {
    attempt(|| {
        x.check()?;
        float_only("layer_norm", x)?;
        let n = x.dim(-1)?;
        check_vector("layer_norm", x, weight, n)?;
        check_vector("layer_norm", x, bias, n)?;
        let norm = FastOp::LayerNorm {
            eps: F32Bits::new(eps),
            weight: weight.is_some(),
            bias: bias.is_some(),
        };
        let inputs = [x].into_iter().chain(weight).chain(bias).cloned();
        Ok(prim(Prim::Fast(norm), inputs, x.0.shape.clone(), x.0.dtype))
    })
}

/// How a rotary embedding turns features.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Features that are rotated; the rest pass through. Even.
    pub dims: usize,
    /// Pairs `(2j, 2j+1)` instead of `(j, j + dims/2)`.
    pub traditional: bool,
    /// Base of the geometric sequence of frequencies, unless `freqs` is given.
    pub base: f32,
    /// Multiplies positions.
    pub scale: f32,
    /// Wavelengths over 2π of the pairs, f32 `(dims/2)`: the angle is `position * scale / freqs[j]`.
    pub freqs: Option<Array>,
}

impl Default for Rope {
    fn default() -> Rope {
        Rope { dims: 0, traditional: false, base: 10_000.0, scale: 1.0, freqs: None }
    }
}

/// Rotary position embedding of `x (b, …, t, d)` or `(t, d)`: row `i` of the second-last axis stands at
/// position `offset + i`. `offset` holds one integer, or one for each `b`.
///
/// Source: Su et al., RoFormer, 2021.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = ones([1, 1, 2, 4], DType::F32);
/// let y = fast::rope(&x, &fast::Rope { dims: 4, ..Default::default() }, &Array::scalar(0));
/// assert!((y.to_vec::<f32>()?[4] - (1f32.cos() - 1f32.sin())).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn rope(x: &Array, how: &Rope, offset: &Array) -> Array {
    attempt(|| {
        x.check()?;
        offset.check()?;
        float_only("rope", x)?;
        let rank = x.0.shape.len();
        let d = x.dim(-1)?;
        if rank < 2 || how.dims == 0 || !how.dims.is_multiple_of(2) || how.dims > d {
            let why = format!("cannot rotate {} features", how.dims);
            return Err(error(ErrorKind::Shape, "rope", why, &[x]));
        }
        let n = offset.0.shape.size();
        if !offset.0.dtype.is_integer() || n != 1 && (rank == 2 || n != x.0.shape[0]) {
            let why = "offset needs one integer, or one for each entry of a batch axis";
            return Err(error(ErrorKind::Shape, "rope", why, &[x, offset]));
        }
        if rank == 2 {
            return Ok(rope(&x.expand_dims(0), how, offset).squeeze(0));
        }
        if let Some(freqs) = &how.freqs {
            freqs.check()?;
            if freqs.0.shape[..] != [how.dims / 2] {
                let why = format!("freqs need shape ({},)", how.dims / 2);
                return Err(error(ErrorKind::Shape, "rope", why, &[x, freqs]));
            }
        }
        let op = FastOp::Rope {
            dims: how.dims as u32,
            traditional: how.traditional,
            base: F32Bits::new(how.base),
            scale: F32Bits::new(how.scale),
            freqs: how.freqs.is_some(),
        };
        let freqs = how.freqs.as_ref().map(|f| f.astype(DType::F32));
        let inputs = [x.clone(), offset.astype(DType::I32)].into_iter().chain(freqs);
        Ok(prim(Prim::Fast(op), inputs, x.0.shape.clone(), x.0.dtype))
    })
}

/// Which keys a query may see.
#[derive(Clone, Debug, Default)]
pub enum Mask {
    /// All of them.
    #[default]
    None,
    /// Query `i` of `tq` sees keys up to `i + tk - tq`.
    Causal,
    /// As `Causal`, and of those only the last so many.
    Window(usize),
    /// An array that broadcasts to `(b, h, tq, tk)`: bool keeps where true; a float is added to the
    /// scores.
    Array(Array),
}

/// Options of [`scaled_dot_product_attention`].
#[derive(Clone, Debug)]
pub struct Attention<'a> {
    /// Multiplies the scores; usually `1 / sqrt(d)`.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// One extra logit for each query head, `(h)`, that takes part in the normalisation only.
    pub sinks: Option<&'a Array>,
    /// How many of the keys and values are in use, an integer array of one element: those after it are
    /// not seen, and `Causal` counts from it. For caches that have more room than they hold: steps of a
    /// loop then differ in values only, and share one plan. Beyond `0..=tk` it is an error of the
    /// evaluation.
    pub length: Option<&'a Array>,
}

impl Default for Attention<'_> {
    fn default() -> Self {
        Attention { scale: 1.0, mask: Mask::None, sinks: None, length: None }
    }
}

/// `softmax(q kᵀ * scale) v` with masks and grouped heads, in memory that does not grow with
/// `tq * tk`.
///
/// `q (b, h, tq, d)`, `k (b, hk, tk, d)`, `v (b, hk, tk, dv)` of float dtypes; `h` is a multiple of
/// `hk`, and query head `i` uses key head `i / (h / hk)`. Scores and softmax are in f32 (f64 for
/// f64); the result `(b, h, tq, dv)` has the operands' dtype. A query that sees nothing gives zeros.
/// Source: Vaswani et al., 2017; Dao et al., FlashAttention, 2022.
///
/// ```
/// use lazul_core::prelude::*;
/// use fast::{Attention, Mask, scaled_dot_product_attention};
/// // Two queries and keys of one head: the first sees its own key only.
/// let q = zeros([1, 1, 2, 4], DType::F32);
/// let v = arange(8, DType::F32).reshape([1, 1, 2, 4]);
/// let causal = Attention { mask: Mask::Causal, ..Default::default() };
/// let y = scaled_dot_product_attention(&q, &q, &v, &causal);
/// assert_eq!(y.to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 5.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn scaled_dot_product_attention(q: &Array, k: &Array, v: &Array, how: &Attention<'_>) -> Array {
    const OP: &str = "scaled_dot_product_attention";
    attempt(|| {
        for x in [q, k, v] {
            x.check()?;
            float_only(OP, x)?;
        }
        let shapes = (&q.0.shape[..], &k.0.shape[..], &v.0.shape[..]);
        let (&[b, h, tq, d], &[bk, hk, tk, dk], &[bv, hv, tv, dv]) = shapes else {
            return Err(error(ErrorKind::Shape, OP, "operands need four dimensions", &[q, k, v]));
        };
        if b != bk || b != bv || hk != hv || tk != tv || d != dk || hk == 0 || h % hk != 0 {
            return Err(error(ErrorKind::Shape, OP, "operands do not fit together", &[q, k, v]));
        }
        let dtype = DType::promote(DType::promote(q.0.dtype, k.0.dtype), v.0.dtype);
        let mut inputs = vec![q.astype(dtype), k.astype(dtype), v.astype(dtype)];
        let (mut causal, mut window) = (false, 0);
        match &how.mask {
            Mask::None => {}
            Mask::Causal => causal = true,
            Mask::Window(n) => {
                causal = true;
                window = u32::try_from(*n).unwrap_or(u32::MAX);
                if window == 0 {
                    return Err(error(ErrorKind::Value, OP, "a window of 0 keys", &[q, k, v]));
                }
            }
            Mask::Array(mask) => {
                mask.check()?;
                if mask.0.dtype != DType::Bool && !mask.0.dtype.is_float() {
                    return Err(error(ErrorKind::DType, OP, "a mask is bool or float", &[q, mask]));
                }
                let mask = mask.broadcast_to([b, h, tq, tk]);
                mask.check()?;
                inputs.push(mask);
            }
        }
        let mask = inputs.len() == 4;
        if let Some(sinks) = how.sinks {
            sinks.check()?;
            float_only(OP, sinks)?;
            if sinks.0.shape[..] != [h] {
                return Err(error(ErrorKind::Shape, OP, "needs one sink a head", &[q, sinks]));
            }
            inputs.push(sinks.clone());
        }
        if let Some(length) = how.length {
            length.check()?;
            if !length.0.dtype.is_integer() || length.0.shape.size() != 1 {
                let why = "the length is one integer";
                return Err(error(ErrorKind::Shape, OP, why, &[q, length]));
            }
            inputs.push(length.astype(DType::I32).reshape([1]));
        }
        let op = FastOp::Attention {
            scale: F32Bits::new(how.scale),
            causal,
            window,
            mask,
            sinks: how.sinks.is_some(),
            length: how.length.is_some(),
        };
        Ok(prim(Prim::Fast(op), inputs, Shape::new(&[b, h, tq, dv]), dtype))
    })
}

/// A fast operation as a composition of ordinary ones, on the operands that its primitive takes (see
/// [`FastOp`]).
///
/// ```
/// use lazul_core::prelude::*;
/// let x = linspace(-1.0, 1.0, 8, DType::F32);
/// let composed = fast::fallback(&fast::FastOp::Softmax, &[x.clone()])?;
/// assert!(composed.allclose(&x.softmax(-1), Default::default()).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If an operand is a failed array, is not there, or lacks a dimension.
pub fn fallback(op: &FastOp, inputs: &[Array]) -> Result<Array> {
    let given = |flags: &[bool]| flags.iter().filter(|&&f| f).count();
    let wanted = match op {
        FastOp::Softmax | FastOp::LogSumExp => 1..=1,
        FastOp::RmsNorm { .. } => 1..=2,
        FastOp::LayerNorm { weight, bias, .. } => {
            let n = 1 + given(&[*weight, *bias]);
            n..=n
        }
        FastOp::Rope { freqs, .. } => {
            let n = 2 + given(&[*freqs]);
            n..=n
        }
        FastOp::Attention { mask, sinks, length, .. } => {
            let n = 3 + given(&[*mask, *sinks, *length]);
            n..=n
        }
    };
    let (true, Some(x)) = (wanted.contains(&inputs.len()), inputs.first()) else {
        let why = format!("{} operands, not {}", inputs.len(), wanted.end());
        let all: Vec<&Array> = inputs.iter().collect();
        return Err(error(ErrorKind::Value, op.name(), why, &all));
    };
    let dtype = x.dtype()?;
    let inner = wide(dtype);
    Ok(match op {
        FastOp::Softmax => {
            let x = x.astype(inner);
            let e = (&x - x.max_keepdims(-1)).exp();
            (&e / e.sum_keepdims(-1)).astype(dtype)
        }
        FastOp::LogSumExp => {
            let x = x.astype(inner);
            let top = x.max_keepdims(-1);
            // Rows of infinities have no finite top to subtract.
            let base = where_(top.isfinite(), &top, 0.0);
            ((&x - &base).exp().sum_keepdims(-1).log() + base).astype(dtype)
        }
        FastOp::RmsNorm { eps } => {
            let x = x.astype(inner);
            let y = &x * (x.square().mean_keepdims(-1) + eps.get()).rsqrt();
            match inputs.get(1) {
                Some(w) => (y * w.astype(inner)).astype(dtype),
                None => y.astype(dtype),
            }
        }
        FastOp::LayerNorm { eps, weight, bias } => {
            let x = x.astype(inner);
            let centred = &x - x.mean_keepdims(-1);
            let mut y = &centred * (centred.square().mean_keepdims(-1) + eps.get()).rsqrt();
            if *weight {
                y *= inputs[1].astype(inner);
            }
            if *bias {
                y += inputs[inputs.len() - 1].astype(inner);
            }
            y.astype(dtype)
        }
        FastOp::Rope { dims, traditional, base, scale, freqs } => {
            let (dims, t, d) = (*dims as usize, x.dim(-2)?, x.dim(-1)?);
            let half = dims / 2;
            let inverse = if *freqs {
                inputs[2].reciprocal()
            } else {
                // Frequencies in f64, rounded once.
                let exponent = arange_step(0, dims, 2, DType::F64) / dims as f64;
                let base = Array::scalar(base.get() as f64);
                base.power(exponent.negative()).astype(DType::F32)
            };
            let offset = inputs[1].reshape([-1]).astype(DType::F32).expand_dims(-1);
            let position = (offset + arange(t, DType::F32)) * scale.get();
            // (1 or b, t, half), then ones for the axes between.
            let angle = position.expand_dims(-1) * inverse;
            let lead = angle.dim(0)?;
            let mut shape = vec![1; x.ndim()?];
            shape[0] = lead;
            let at = shape.len() - 2;
            (shape[at], shape[at + 1]) = (t, half);
            let angle = angle.reshape(shape);
            let (cos, sin) = (angle.cos(), angle.sin());
            let y = x.astype(DType::promote(inner, DType::F32));
            let turned = y.slice_axis(-1, 0, dims as i64);
            let parts = |x: &Array| -> (Array, Array) {
                match traditional {
                    true => (x.slice_step(-1, 0, None, 2), x.slice_step(-1, 1, None, 2)),
                    false => {
                        (x.slice_axis(-1, 0, half as i64), x.slice_axis(-1, half as i64, None))
                    }
                }
            };
            let (a, b) = parts(&turned);
            let (p, q) = (&a * &cos - &b * &sin, &a * &sin + &b * &cos);
            let rotated = match traditional {
                true => concatenate(&[p.expand_dims(-1), q.expand_dims(-1)], -1).flatten(-2, -1),
                false => concatenate(&[p, q], -1),
            };
            if dims == d {
                rotated.astype(dtype)
            } else {
                concatenate(&[rotated.astype(dtype), x.slice_axis(-1, dims as i64, None)], -1)
            }
        }
        FastOp::Attention { scale, causal, window, mask, sinks, length } => {
            let [b, h, tq, d] = x.dims()?;
            let [_, hk, tk, _] = inputs[1].dims()?;
            let dv = inputs[2].dim(-1)?;
            let Some(group) = h.checked_div(hk) else {
                return Err(error(ErrorKind::Shape, op.name(), "keys have no heads", &[x]));
            };
            let q = (x.astype(inner) * scale.get()).reshape([b, hk, group, tq, d]);
            let k = inputs[1].astype(inner).expand_dims(2);
            let v = inputs[2].astype(inner).expand_dims(2);
            let mut scores = q.matmul(&k.mt()).reshape([b, h, tq, tk]);
            let hidden = f32::NEG_INFINITY;
            let j = arange(tk, DType::I64);
            let used = match length {
                true => inputs[inputs.len() - 1].reshape([1, 1]).astype(DType::I64),
                false => Array::scalar(tk as i64).reshape([1, 1]),
            };
            if *length {
                scores = where_(j.less(&used), scores, hidden);
            }
            if *causal {
                let i = arange_step(-(tq as i64), 0, 1, DType::I64).expand_dims(-1) + &used;
                let mut see = j.less_equal(&i);
                if *window > 0 {
                    see = see.logical_and(j.greater(i - *window as i64));
                }
                scores = where_(see, scores, hidden);
            }
            if *mask {
                scores = match inputs[3].dtype()? {
                    DType::Bool => where_(&inputs[3], scores, hidden),
                    _ => scores + inputs[3].astype(inner),
                };
            }
            let sink =
                sinks.then(|| inputs[3 + usize::from(*mask)].astype(inner).reshape([1, h, 1, 1]));
            let mut top = scores.max_keepdims(-1);
            if let Some(sink) = &sink {
                top = top.maximum(sink);
            }
            let top = where_(top.isfinite(), &top, 0.0);
            let e = (scores - &top).exp();
            let mut total = e.sum_keepdims(-1);
            if let Some(sink) = &sink {
                total += (sink - &top).exp();
            }
            let p = where_(total.greater(0.0), &e / &total, 0.0);
            p.reshape([b, hk, group, tq, tk]).matmul(&v).reshape([b, h, tq, dv]).astype(dtype)
        }
    })
}
